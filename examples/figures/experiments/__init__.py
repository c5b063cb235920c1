"""What the experiments share: scenes, recipes, descents, pictures, and files.

The scripts beside this folder are started by their paths; what they share with the other examples lies one folder up.
"""

import sys
from pathlib import Path

_EXAMPLES = str(Path(__file__).resolve().parents[2])
if _EXAMPLES not in sys.path:
    sys.path.append(_EXAMPLES)

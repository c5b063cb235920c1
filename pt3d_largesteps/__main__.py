"""``python -m pt3d_largesteps``."""

import sys

from pt3d_largesteps.commands import main

if __name__ == "__main__":
    sys.exit(main())

"""The compiled operators: where they are found, how torch sees them, and the same in plain torch.

Importing ``pt3d_largesteps.native.operators`` registers ``torch.ops.pt3d_largesteps``.
"""

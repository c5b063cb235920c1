"""The compiled operators: how they are found, how torch registers them, and the same operators in plain torch.

Importing ``pt3d_largesteps.native.operators`` registers ``torch.ops.pt3d_largesteps``.
"""

"""Surfaces as such: other triangles for them, their repair, and a start from silhouettes."""

"""A batch of meshes as linear systems: groups of meshes with one matrix, pinned vertices, and u = M x as functions."""

"""The sparse matrices M = I + lambda L of meshes and graphs, and what they are made of: edges, weights, lambda or alpha."""

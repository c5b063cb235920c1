"""The sparse matrices M = I + lambda L of meshes and graphs, and their parts: edges, weights, lambda or alpha."""

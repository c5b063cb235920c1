"""A batch of meshes as systems to solve: which meshes share a matrix, pins, and u = M x as functions of tensors."""

"""The parameterisation as modules with one parameter u: for meshes, for grids, and for the textures of meshes."""

"""The parameterisation as modules with one parameter u: of meshes, of grids, and of the textures of meshes."""

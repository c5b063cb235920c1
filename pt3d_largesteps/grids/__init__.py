"""The same matrices on regular grids: lines, images and volumes."""

// Everything that is compiled per instruction set. The including file first includes all other headers, then chooses the set,
// then opens a separate namespace inside largesteps::renderer.

#include "../cpu/vectors.inl"

#include "lanes.inl"
#include "vertices.inl"
#include "raster.inl"
#include "shading.inl"
#include "comparing.inl"

template <typename T>
Kernels<T> make_for() {
  return {face_normals<T>,  vertex_normals<T>, points_of<T>,          rasterize<T>,        draw<T>, draw_backward<T>, compare<T>,
          points_backward<T>, face_normals_backward<T>, vertices_backward<T>};
}

AllKernels make(const char* name) { return {name, make_for<float>(), make_for<double>()}; }

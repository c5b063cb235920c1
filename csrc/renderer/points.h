// The points of the images of a batch, from vertices, cameras, light and colours; and back.
#pragma once

#include <cstdint>

#include "batch.h"

namespace largesteps::renderer {

// Tensors of the vertices; those that may be null are absent then.
template <typename T>
struct Vertices {
  const T* verts;       // num_verts x 3, in the given order
  const T* view;        // num_images x 16: matrices (4, 4) for row vectors, as PyTorch3D's
  const T* projection;  // the same
  const T* light;       // 27, or num_images x 27; or null: no attributes
  bool light_per_image;
  const T* colors;      // num_verts x 3, in the given order, or null

  int32_t blocks() const { return light ? (colors ? 2 : 1) : 0; }
};

// normals: num_verts x 4, for the backward pass; sorted.
template <typename T>
void make_points(const Batch& batch, const Vertices<T>& given, T* points, T* normals);

template <typename T>
struct VertexGradients {  // those that are null are not needed
  T* verts;
  T* view;
  T* projection;
  T* light;
  T* colors;
};

template <typename T>
void make_points_backward(const Batch& batch, const Vertices<T>& given, const T* points, const T* normals, const T* gradient,
                          const VertexGradients<T>& to);

}  // namespace largesteps::renderer

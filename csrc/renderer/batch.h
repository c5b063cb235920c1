// The renderer's steps for a batch of images, each shared among threads. The same bits come for every number of threads: what
// is added up is added in an order that depends on the batch alone.
//
// The images of a batch of meshes lie mesh after mesh, equally many for each. The points are 1 + blocks planes of num_rows() rows
// of four numbers; those of image n are the rows from first_row(n) on of each plane. Their gradient has the same layout.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels.h"
#include "mesh_index.h"

namespace largesteps::renderer {

struct Batch {
  MeshIndex index;
  int64_t num_images;
  int num_threads;

  int64_t images_per_mesh() const { return index[kNumMeshes] ? num_images / index[kNumMeshes] : 0; }
  int64_t mesh_of(int64_t image) const { return image / images_per_mesh(); }
  int64_t num_verts(int64_t mesh) const { return index[kVertFirst][mesh + 1] - index[kVertFirst][mesh]; }
  int64_t first_row(int64_t image) const {
    const int64_t mesh = mesh_of(image);
    return images_per_mesh() * index[kVertFirst][mesh] + (image - mesh * images_per_mesh()) * num_verts(mesh);
  }
  int64_t num_rows() const { return images_per_mesh() * index[kNumVerts]; }
  // Numbers from one plane of points to the next.
  int64_t plane() const { return 4 * num_rows(); }
  // The points of an image, of those of the batch.
  template <typename T>
  Points<T> points(const T* data, int64_t image) const {
    return {data + 4 * first_row(image), index[kCorners], -index[kVertFirst][mesh_of(image)], plane()};
  }
};

template <typename T>
std::vector<T> numbers(int64_t count) {
  return std::vector<T>(static_cast<size_t>(count));
}

// Runs body(begin, end) for the numbers of an image's points among those of the batch: once for each plane.
template <typename Body>
void for_planes(const Batch& batch, int32_t blocks, int64_t image, const Body& body) {
  const int64_t first = 4 * batch.first_row(image), count = 4 * batch.num_verts(batch.mesh_of(image));
  for (int64_t k = 0; k <= blocks; ++k) body(k * batch.plane() + first, k * batch.plane() + first + count);
}

// Sets the gradients of an image's points to zero.
template <typename T>
void clear_points(const Batch& batch, int32_t blocks, int64_t image, T* to) {
  for_planes(batch, blocks, image, [&](int64_t begin, int64_t end) { std::fill(to + begin, to + end, T(0)); });
}

}  // namespace largesteps::renderer

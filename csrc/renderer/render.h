// The renderer's steps for a batch of images, each shared among threads. The same bits come for every number of threads: what
// is added up is added in an order that depends on the batch alone.
//
// The images of a batch of meshes lie mesh after mesh, equally many for each. The points are 1 + blocks planes of num_rows() rows
// of four numbers; those of image n are the rows from first_row(n) on of each plane. Their gradient has the same layout.
#pragma once

#include <cstdint>
#include <vector>

#include "frame.h"
#include "kernels.h"
#include "mesh_index.h"
#include "outlines.h"

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

// depth and faces: num_images x height x pitch. The crossings are empty unless outlined.
template <typename T>
std::vector<Crossing> rasterize(const Batch& batch, const Frame<T>& frame, const Camera<T>& camera, const T* points,
                                bool outlined, T* depth, int32_t* faces);

// Whether crossings can be those of the batch's pictures: of these pixels, of edges of the image's mesh, and in order.
bool crossings_fit(const Batch& batch, int height, int width, const Crossing* crossings, int64_t count);

// What all images of a batch show.
template <typename T>
struct Drawing {
  const T* points;
  int32_t blocks;
  const int32_t* faces;
  const Crossing* crossings;
  int64_t num_crossings;
  bool perspective;
  Mode mode;
  int32_t channels;
  T background[4];
};

// images: num_images x height x width x channels.
template <typename T>
void draw(const Batch& batch, const Frame<T>& frame, const Drawing<T>& drawing, T* images);

template <typename T>
void draw_backward(const Batch& batch, const Frame<T>& frame, const Drawing<T>& drawing, const T* gradient, T* to_points);

// The outlines of pictures that something else has drawn: changes them in place.
template <typename T>
void blend(const Batch& batch, const Frame<T>& frame, const Drawing<T>& drawing, T* images);

// to_images holds the gradient of the result, and is changed to that of the given images.
template <typename T>
void blend_backward(const Batch& batch, const Frame<T>& frame, const Drawing<T>& drawing, const T* images, T* to_images,
                    T* to_points);

// The mean differences from given pictures, one number for each image, and the gradient of their sum unless null.
template <typename T>
void compare(const Batch& batch, const Frame<T>& frame, const Drawing<T>& drawing, const std::vector<Target<T>>& targets,
             T* losses, T* to_points);

// The gradient of points times a number for each image.
template <typename T>
void scale_gradient(const Batch& batch, int32_t blocks, const T* scales, const T* gradient, T* to_points);

}  // namespace largesteps::renderer

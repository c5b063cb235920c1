// The inner loops of the renderer, compiled for several instruction sets and chosen when the program runs. All have vectors of
// eight numbers, and only the projection of points may fuse a multiplication with an addition: of the same points every set
// makes the same picture, to the last bit.
#pragma once

#include <cstdint>

#include "frame.h"

namespace largesteps::renderer {

// The points of an image: for each sorted vertex of its mesh a row of four numbers in each of several planes. The first holds
// (x, y, depth, w): x and y are NDC, depth is that of view space, w what the projection divides by. Each plane after it holds
// four attributes. So what needs only the places, as the rasteriser does, reads no attributes with them.
template <typename T>
struct Points {
  const T* data;           // the image's first row of the first plane
  const int32_t* corners;  // of the batch's faces
  int32_t shift;           // from a vertex of the batch to a row
  int64_t plane;           // numbers from one plane to the next

  const T* place(int32_t row) const { return data + 4 * int64_t{row}; }
  const T* attributes(int block) const { return data + (1 + block) * plane; }
};

// The vertices of a mesh, sorted, as rows of four.
template <typename T>
struct Surface {
  const T* verts;
  const int32_t* corners;
  const int32_t* corner_first;
  const int32_t* vert_corners;
  T scale;  // of the normals: they do not depend on it, but their squares must not underflow
};

// The rasteriser's output of an image.
template <typename T>
struct Buffers {
  T* depth;          // height x pitch, infinite where nothing is
  int32_t* faces;    // the same, -1
};

// Which pixels of a picture differ from a given one, and by how much.
template <typename T>
struct Target {
  const void* pixels;       // height x width x channels, of T or uint8
  bool of_bytes;
  const T* pixel_weights;   // height x width, or null
  T channel_weights[4];
  Difference kind;
  T beta;                   // of kSmoothL1
};

template <typename T>
struct Pixels {
  const int32_t* faces;  // height x pitch
  Mode mode;
  int32_t channels;
  T background[4];
};

// What the gradient of the points becomes.
template <typename T>
struct PointsBackward {
  const T *verts, *normals;       // rows of four; normals may be null
  const T *points, *gradient;     // of the mesh's first image; the others follow after image_stride numbers each
  int64_t image_stride, plane;
  int32_t blocks, num_images;
  const T *view, *projection;     // 16 for each image
  const T* light;                 // 27, or 27 for each image
  bool light_per_image;
  T* to_verts;                    // rows of four
  T* to_normal_sums;              // rows of four
  T* to_colors;                   // rows of four, or null
  T* to_cameras;                  // 32 for each image: view, projection; added; or null
  T* to_light;                    // as the light; added; or null
};

template <typename T>
struct Kernels {
  // Face normals times scale^2, of the faces [begin, end), rows of four.
  void (*face_normals)(const Surface<T>& surface, int64_t begin, int64_t end, T* normals);
  // The unit normals of the vertices [begin, end), and in the fourth number one by the length of the sum of face normals.
  void (*vertex_normals)(const Surface<T>& surface, const T* face_normals, int64_t begin, int64_t end, T* normals);
  // The points of the vertices [begin, end) of a mesh in one image. light: 9 x 3, or null without attributes. colors: rows of
  // four, or null. to: the image's points, with plane numbers from one plane to the next.
  void (*points)(const T* verts, const T* normals, const T* colors, const T* view, const T* projection, const T* light,
                 bool fuses, int64_t begin, int64_t end, T* to, int64_t plane);
  // Draws the faces [begin, end) into the rows [first_row, end_row). sides: for each face the sign of its area in pixels, or
  // null.
  void (*rasterize)(const Frame<T>& frame, const Camera<T>& camera, const Points<T>& points, const int32_t* face_order,
                    int64_t begin, int64_t end, int first_row, int end_row, const Buffers<T>& buffers, int8_t* sides);
  // The rows of a picture, without outlines.
  void (*draw)(const Frame<T>& frame, bool perspective, const Points<T>& points, const Pixels<T>& pixels, int first_row,
               int end_row, T* image);
  // Adds the gradient of the points.
  void (*draw_backward)(const Frame<T>& frame, bool perspective, const Points<T>& points, const Pixels<T>& pixels,
                        int first_row, int end_row, const T* gradient, T* to);
  // The weighted sum of the differences from the target without the pixels that are marked, and, unless null, its gradient.
  double (*compare)(const Frame<T>& frame, bool perspective, const Points<T>& points, const Pixels<T>& pixels,
                    const Target<T>& target, const uint8_t* marked, int first_row, int end_row, T* to);
  // The backward pass of points, for the vertices [begin, end): see vertices.inl.
  void (*points_backward)(const PointsBackward<T>& arguments, int64_t begin, int64_t end);
  // The sums over the corners' gradients for the faces [begin, end), times scale.
  void (*face_normals_backward)(const Surface<T>& surface, const T* sums, int64_t begin, int64_t end, T* to);
  // The gradient of the vertices [begin, end), rows of four: the given one and what comes through the face normals.
  void (*vertices_backward)(const Surface<T>& surface, const T* face_gradients, int64_t begin, int64_t end, T* gradient);
};

struct AllKernels {
  const char* instruction_set;
  Kernels<float> single_precision;
  Kernels<double> double_precision;

  template <typename T>
  const Kernels<T>& of() const;
};

template <>
inline const Kernels<float>& AllKernels::of<float>() const {
  return single_precision;
}
template <>
inline const Kernels<double>& AllKernels::of<double>() const {
  return double_precision;
}

// The best kernels that this processor can run.
const AllKernels& kernels();

}  // namespace largesteps::renderer

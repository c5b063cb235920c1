// The outlines: where silhouette edges pass between the centres of two neighbouring pixels, one inside the surface and one
// outside. The two are blended there, which makes a picture depend smoothly on the outline. As in Laine et al., "Modular
// Primitives for High-Performance Differentiable Rendering", ACM TOG 39(6), 2020, Sec. 3.4, but all silhouette edges are tried,
// not only those of the face that the inside pixel sees.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "frame.h"
#include "kernels.h"
#include "mesh_index.h"

namespace largesteps::renderer {

// Six numbers in the tensor of crossings, sorted by image and then by the pixel that changes.
struct Crossing {
  int32_t image;
  int32_t edge;             // of the batch
  int32_t line;             // the row of a steep edge, the column of a flat one
  int32_t inside, outside;  // pixels: row * width + column
  int32_t flags;

  static constexpr int32_t kSteep = 1, kReachesOut = 2;
  bool steep() const { return flags & kSteep; }
  // If the outline is nearer to the outside pixel's centre, that pixel takes some of the inside colour; else the reverse.
  bool reaches_out() const { return flags & kReachesOut; }
  int32_t target() const { return reaches_out() ? outside : inside; }
  int32_t source() const { return reaches_out() ? inside : outside; }
};
static_assert(sizeof(Crossing) == 6 * sizeof(int32_t), "a row of the tensor");

// The visible crossings of one image of mesh number `mesh`; of those of the same pair of pixels, the one that reaches furthest
// out. sides: of rasterize, of the batch's faces.
template <typename T>
std::vector<Crossing> find_crossings(const Frame<T>& frame, const Camera<T>& camera, const MeshIndex& index, int64_t mesh,
                                     int32_t image, const Points<T>& points, const T* depth, const int8_t* sides);

// Where an edge cuts the line of a crossing, from the pixel inside.
template <typename T>
struct Cut {
  const T *a, *b;   // the ends, rows of the points
  int32_t row_a, row_b;
  T length, along, tilt;  // of the edge along the counted direction; the share of it before the cut; across / along
  T distance, direction;  // in [0, 1]; +1 if it grows with the coordinate across

  T blend() const { return std::abs(distance - T(0.5)); }
  // Of blend, by the coordinate across.
  T slope() const { return distance > T(0.5) ? direction : distance < T(0.5) ? -direction : T(0); }
};

template <typename T>
Cut<T> cut_of(const Frame<T>& frame, const MeshIndex& index, const Points<T>& points, const Crossing& crossing);

// Adds to the gradients of the ends what a change of blend is worth.
template <typename T>
void cut_backward(const Frame<T>& frame, const Crossing& crossing, const Cut<T>& cut, T to_blend, T* to);

}  // namespace largesteps::renderer

// Planes that cut a part of a mesh where it is thin, near its middle.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "placed_vertices.h"

namespace largesteps {

// The points p with axis . p = height.
struct Plane {
  std::array<float, 3> axis;  // of length 1 (the reach of vertices assumes it), or 0
  float height;
  bool at_median;    // the height is not fixed: half of the points shall be below
  double crossings;  // estimated number of crossing edges, for comparing planes; larger for planes far from the median
};

inline float height_above_origin(const PlacedVertex& point, const std::array<float, 3>& axis) {
  return axis[0] * point.x + axis[1] * point.y + axis[2] * point.z;
}

// Reuses its memory between calls, because most parts are small.
class PlaneChooser {
 public:
  // At least one plane, the most promising first. Small parts are cut across their longest axis; for larger ones several
  // directions are tried.
  const std::vector<Plane>& choose(const PlacedVertex* points, int32_t num_points);

 private:
  std::vector<Plane> planes_;
};

}  // namespace largesteps

// Planes to cut a part of a mesh at: where it is thin, and near its middle.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "placed_vertices.h"

namespace largesteps {

// The points p with axis . p = height.
struct Plane {
  std::array<float, 3> axis;  // of length 1, which the reach of vertices relies on, or 0
  float height;
  bool at_median;    // the height is left open: half of the points are to be below
  double crossings;  // an estimate that compares planes: how many edges cross it, more for one far from the median
};

inline float height_above_origin(const PlacedVertex& point, const std::array<float, 3>& axis) {
  return axis[0] * point.x + axis[1] * point.y + axis[2] * point.z;
}

// Keeps its memory from one call to the next, since most parts are small.
class PlaneChooser {
 public:
  // At least one plane, the most promising first. Small parts are cut across their longest axis; for larger ones
  // several directions are looked at.
  const std::vector<Plane>& choose(const PlacedVertex* points, int32_t num_points);

 private:
  std::vector<Plane> planes_;
};

}  // namespace largesteps

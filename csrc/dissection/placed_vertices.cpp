#include "placed_vertices.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "../threads/parallel.h"

namespace largesteps {

namespace {

constexpr int32_t kVertsPerItem = 4096;
// Heights of points of the cube above a plane are off by less than 1e-6, and so are their differences.
constexpr float kReachFactor = 1.0001F;
constexpr float kReachSlack = 1e-5F;

}  // namespace

std::vector<PlacedVertex> place_vertices(const Graph& graph, const double* positions, int num_threads) {
  const int32_t num_verts = graph.num_verts;
  std::array<double, 3> low;
  std::array<double, 3> high;
  low.fill(std::numeric_limits<double>::infinity());
  high.fill(-std::numeric_limits<double>::infinity());
  bool finite = true;
  for (size_t vertex = 0; vertex < static_cast<size_t>(num_verts); ++vertex) {
    for (size_t axis = 0; axis < 3; ++axis) {
      const double value = positions[3 * vertex + axis];
      finite &= std::isfinite(value);
      low[axis] = std::min(low[axis], value);
      high[axis] = std::max(high[axis], value);
    }
  }
  const double extent = 0.5 * std::max({high[0] - low[0], high[1] - low[1], high[2] - low[2]});
  if (!finite || !std::isfinite(extent)) return {};
  // If (almost) all positions are equal they stay in the middle of the cube.
  const double scale = extent > std::numeric_limits<double>::min() ? 1.0 / extent : 0.0;
  const std::array<double, 3> centre = {low[0] + 0.5 * (high[0] - low[0]), low[1] + 0.5 * (high[1] - low[1]),
                                        low[2] + 0.5 * (high[2] - low[2])};

  std::vector<PlacedVertex> points(static_cast<size_t>(num_verts));
  for (size_t vertex = 0; vertex < points.size(); ++vertex) {
    const double* position = positions + 3 * vertex;
    points[vertex] = {static_cast<float>((position[0] - centre[0]) * scale),
                      static_cast<float>((position[1] - centre[1]) * scale),
                      static_cast<float>((position[2] - centre[2]) * scale), 0.0F};
  }
  const auto bound_edges = [&](int64_t item) {
    const auto begin = static_cast<int32_t>(item * kVertsPerItem);
    const int32_t end = num_verts - begin < kVertsPerItem ? num_verts : begin + kVertsPerItem;
    for (int32_t vertex = begin; vertex < end; ++vertex) {
      PlacedVertex& own = points[static_cast<size_t>(vertex)];
      float longest = 0.0F;  // squared
      for (int32_t edge = graph.offsets[static_cast<size_t>(vertex)];
           edge < graph.offsets[static_cast<size_t>(vertex) + 1]; ++edge) {
        const int32_t neighbour = graph.neighbours[static_cast<size_t>(edge)];
        const PlacedVertex& next = points[static_cast<size_t>(neighbour)];
        const float dx = next.x - own.x, dy = next.y - own.y, dz = next.z - own.z;
        longest = std::max(longest, dx * dx + dy * dy + dz * dz);
      }
      own.reach = kReachFactor * std::sqrt(longest) + kReachSlack;
    }
  };
  parallel_for((static_cast<int64_t>(num_verts) + kVertsPerItem - 1) / kVertsPerItem, num_threads, bound_edges);
  return points;
}

}  // namespace largesteps

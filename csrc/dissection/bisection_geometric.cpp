#include "bisection_geometric.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

namespace largesteps {

namespace {

constexpr int32_t kMinVertsForTrials = 2000;  // larger parts are cut at the two best planes instead of one
constexpr int kNumPasses = 2;
constexpr double kMinSideShare = 0.3;      // a plane with a smaller share on one side is rejected
constexpr int32_t kMinVertsForBins = 256;  // smaller parts are sorted around their median at once
constexpr int32_t kNumBins = 256;

}  // namespace

void GeometricBisector::cut(const GraphView& graph, const int32_t* ids, const PlacedVertex* points, int32_t num_verts,
                            uint8_t* side, int32_t* slot, Cut& cut) {
  const std::vector<Plane>& planes = chooser_.choose(points, num_verts);
  cut_at(planes[0], graph, ids, points, num_verts, side, slot, cut);
  if (num_verts < kMinVertsForTrials || planes.size() < 2) return;

  const auto size = static_cast<size_t>(num_verts);
  best_side_.resize(size);
  for (size_t index = 0; index < size; ++index) best_side_[index] = side[ids[index]];
  cut_at(planes[1], graph, ids, points, num_verts, side, slot, trial_);
  if (trial_.cost() < cut.cost()) {
    std::swap(cut, trial_);
  } else {
    for (size_t index = 0; index < size; ++index) side[ids[index]] = best_side_[index];
  }
}

void GeometricBisector::cut_at(const Plane& plane, const GraphView& graph, const int32_t* ids,
                               const PlacedVertex* points, int32_t num_verts, uint8_t* side, int32_t* slot, Cut& cut) {
  const auto size = static_cast<size_t>(num_verts);
  heights_.resize(size);
  float lowest = std::numeric_limits<float>::max();
  float highest = -lowest;
  int32_t num_left = 0;
  for (size_t index = 0; index < size; ++index) {
    const float height = height_above_origin(points[index], plane.axis);
    heights_[index] = height;
    lowest = std::min(lowest, height);
    highest = std::max(highest, height);
    num_left += height < plane.height ? 1 : 0;
  }
  float middle = plane.height;
  int32_t level_left = 0;  // of the points at the height of the plane, how many count as below
  if (plane.at_median || std::min(num_left, num_verts - num_left) < kMinSideShare * num_verts) {
    middle = median(lowest, highest);
    level_left = num_verts / 2;
    for (const float height : heights_) level_left -= height < middle ? 1 : 0;
  }

  // Both ends of an edge that crosses the plane have the plane within their reach.
  candidates_.resize(size);
  size_t num_candidates = 0;
  num_left = 0;
  for (size_t index = 0; index < size; ++index) {
    const float above = heights_[index] - middle;
    bool left = above < 0.0F;
    if (above == 0.0F) left = level_left-- > 0;
    side[ids[index]] = left ? kLeft : kRight;
    num_left += left ? 1 : 0;
    candidates_[num_candidates] = ids[index];
    num_candidates += std::abs(above) <= points[index].reach ? 1 : 0;
  }
  candidates_.resize(num_candidates);
  cut.weights = {num_left, num_verts - num_left, 0};
  refiner_.separate(graph, candidates_, side, cut);
  refiner_.refine(graph, side, slot, kNumPasses, cut);
}

// The median height of the points. For large parts the search begins with counts of heights in bins.
float GeometricBisector::median(float lowest, float highest) {
  const size_t size = heights_.size();
  const float scale = static_cast<float>(kNumBins) / (highest - lowest);
  auto rank = static_cast<std::ptrdiff_t>(size / 2);
  if (size < static_cast<size_t>(kMinVertsForBins) || !std::isfinite(scale)) {
    around_median_.assign(heights_.begin(), heights_.end());
  } else {
    const auto bin_of = [&](float height) {
      return std::min(static_cast<int32_t>((height - lowest) * scale), kNumBins - 1);
    };
    std::array<int32_t, kNumBins> counts = {};
    for (const float height : heights_) ++counts[static_cast<size_t>(bin_of(height))];
    int32_t bin = 0;
    while (rank >= counts[static_cast<size_t>(bin)]) rank -= counts[static_cast<size_t>(bin++)];
    around_median_.resize(size);
    size_t found = 0;
    for (const float height : heights_) {
      around_median_[found] = height;
      found += bin_of(height) == bin ? 1 : 0;
    }
    around_median_.resize(found);
  }
  std::nth_element(around_median_.begin(), around_median_.begin() + rank, around_median_.end());
  return around_median_[static_cast<size_t>(rank)];
}

}  // namespace largesteps

#include "part_splitter.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

namespace largesteps {

namespace {

constexpr int32_t kMinSideFraction = 8;  // a cut is useful if the smaller side has at least 1 / this of the vertices
// Planes through a surface or a solid should not give separators larger than these.
constexpr double kMinSolidDegree = 8.0;  // average number of neighbours from which a graph counts as a solid
constexpr double kMaxSurfaceSeparator = 4.0;
constexpr double kMaxSolidSeparator = 3.0;

}  // namespace

void PartSplitter::split(Part part, std::vector<Part>& children) {
  bool positions_help = part.use_positions;
  if (!find_cut(part, positions_help)) {
    dissection_.add_node(part.begin, part.begin);
    return;
  }
  arrange(part);
  const int32_t middle = part.begin + static_cast<int32_t>(cut_.weights[kLeft]);
  const int32_t separator = middle + static_cast<int32_t>(cut_.weights[kRight]);
  // An empty separator is not a node: the nodes of its children then belong to the next node above, if there is one.
  if (separator < part.end) dissection_.add_node(separator, part.begin);
  children.push_back({part.begin, middle, positions_help});
  children.push_back({middle, separator, positions_help});
}

// Whether there is a useful cut; cut_ and the sides of the part's vertices describe it then.
bool PartSplitter::find_cut(const Part& part, bool& positions_help) {
  const int32_t* const ids = dissection_.ids.data() + part.begin;
  uint8_t* const side = dissection_.side.data();
  int32_t* const slot = dissection_.slot.data();
  if (!part.use_positions) {
    multilevel_.cut(dissection_.view, ids, part.size(), side, slot, cut_);
  } else {
    geometric_.cut(dissection_.view, ids, dissection_.points.data() + part.begin, part.size(), side, slot, cut_);
    // If the graph alone gives far better cuts, the positions do not fit the graph and are ignored.
    if (is_poor(part) && try_multilevel(part)) positions_help = 2 * cut_.weights[2] > other_cut_.weights[2];
  }
  const int64_t smaller = std::min(cut_.weights[kLeft], cut_.weights[kRight]);
  return smaller > 0 && smaller * kMinSideFraction >= part.size();
}

bool PartSplitter::is_poor(const Part& part) const {
  const double degree = static_cast<double>(dissection_.graph.neighbours.size()) / dissection_.graph.num_verts;
  const double root = degree < kMinSolidDegree ? kMaxSurfaceSeparator * std::sqrt(part.size())
                                               : kMaxSolidSeparator * std::pow(std::cbrt(part.size()), 2);
  return static_cast<double>(cut_.weights[kSeparator]) > root;
}

// Cuts by the graph alone. If this cut is better it is used, and other_cut_ holds the old one; else nothing changes.
bool PartSplitter::try_multilevel(const Part& part) {
  const int32_t* const ids = dissection_.ids.data() + part.begin;
  uint8_t* const side = dissection_.side.data();
  const auto size = static_cast<size_t>(part.size());
  saved_side_.resize(size);
  for (size_t index = 0; index < size; ++index) saved_side_[index] = side[ids[index]];
  multilevel_.cut(dissection_.view, ids, part.size(), side, dissection_.slot.data(), other_cut_);
  if (other_cut_.cost() < cut_.cost()) {
    std::swap(cut_, other_cut_);
    return true;
  }
  for (size_t index = 0; index < size; ++index) side[ids[index]] = saved_side_[index];
  return false;
}

// Moves the vertices of a part that was cut to their places: left, right, separator.
void PartSplitter::arrange(const Part& part) {
  const auto size = static_cast<size_t>(part.size());
  int32_t* const ids = dissection_.ids.data() + part.begin;
  moved_ids_.assign(ids, ids + size);
  PlacedVertex* points = nullptr;
  if (part.use_positions) {
    points = dissection_.points.data() + part.begin;
    moved_points_.assign(points, points + size);
  }
  std::array<size_t, 3> place = {0, static_cast<size_t>(cut_.weights[kLeft]),
                                 static_cast<size_t>(cut_.weights[kLeft] + cut_.weights[kRight])};
  for (size_t index = 0; index < size; ++index) {
    const int32_t vertex = moved_ids_[index];
    const size_t target = place[dissection_.side[static_cast<size_t>(vertex)]]++;
    ids[target] = vertex;
    if (points != nullptr) points[target] = moved_points_[index];
  }
  for (const int32_t vertex : cut_.separator) dissection_.side[static_cast<size_t>(vertex)] = kOutside;
}

}  // namespace largesteps

#include "bisection_multilevel.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace largesteps {

namespace {

constexpr int32_t kCoarsestVerts = 100;
constexpr int32_t kMaxKeptPercent = 95;  // coarsening ends if a level keeps more of its vertices than this
constexpr int32_t kMinVertsForTrials = 1000;  // larger parts are coarsened in several ways, from a level on that has
constexpr int32_t kTrialShrinkage = 8;        // so many times fewer vertices
constexpr int32_t kNumTrials = 4;
constexpr int32_t kNumSeeds = 4;
constexpr int kNumCoarsestPasses = 4;
constexpr int kNumPasses = 2;
constexpr double kMinGrownShare = 0.34;  // a growing side ends with at least this share of the part, and so does the other side

}  // namespace

void MultilevelBisector::cut(const GraphView& graph, const int32_t* ids, int32_t num_verts, uint8_t* side,
                             int32_t* slot, Cut& cut) {
  extract(graph, ids, num_verts, side, slot);
  const int32_t num_trials = num_verts < kMinVertsForTrials ? 1 : kNumTrials;
  const size_t middle = coarsen(0, num_trials == 1 ? num_verts : num_verts / kTrialShrinkage, 0);
  for (int32_t trial = 0; trial < num_trials; ++trial) {
    const size_t coarsest = coarsen(middle, kCoarsestVerts, trial);
    cut_coarsest(levels_[coarsest], trial_);
    refine_up(coarsest, middle, trial_);
    if (trial == 0 || trial_.cost() < cut.cost()) {
      std::swap(cut, trial_);
      levels_[middle].side.swap(middle_side_);
    }
  }
  levels_[middle].side.swap(middle_side_);
  refine_up(middle, 0, cut);
  for (int32_t& vertex : cut.separator) vertex = ids[vertex];
  for (int32_t index = 0; index < num_verts; ++index) side[ids[index]] = levels_[0].side[static_cast<size_t>(index)];
}

// The part as a separate graph.
void MultilevelBisector::extract(const GraphView& graph, const int32_t* ids, int32_t num_verts, const uint8_t* side,
                                 int32_t* slot) {
  if (levels_.empty()) levels_.emplace_back();
  WeightedGraph& part = levels_[0].graph;
  const auto size = static_cast<size_t>(num_verts);
  part.num_verts = num_verts;
  part.offsets.resize(size + 1);
  part.offsets[0] = 0;
  part.neighbours.clear();
  for (int32_t index = 0; index < num_verts; ++index) slot[ids[index]] = index;
  for (size_t index = 0; index < size; ++index) {
    const int32_t vertex = ids[index];
    for (int32_t edge = graph.offsets[vertex]; edge < graph.offsets[vertex + 1]; ++edge) {
      const int32_t neighbour = graph.neighbours[edge];
      if (side[neighbour] != kOutside) part.neighbours.push_back(slot[neighbour]);
    }
    part.offsets[index + 1] = static_cast<int32_t>(part.neighbours.size());
  }
  part.edge_weights.assign(part.neighbours.size(), 1);
  part.vertex_weights.assign(size, 1);
  levels_[0].slot.resize(size);
}

// Fills the levels after `level` until one has at most the given number of vertices; returns its index.
size_t MultilevelBisector::coarsen(size_t level, int32_t num_verts, int32_t variant) {
  const int32_t max_weight = 2 + 3 * (levels_[0].graph.num_verts / (2 * kCoarsestVerts));
  while (levels_[level].graph.num_verts > num_verts) {
    if (levels_.size() == level + 1) levels_.emplace_back();
    Level& fine = levels_[level];
    Level& coarse = levels_[level + 1];
    coarsener_.coarsen(fine.graph, max_weight, variant, coarse.graph, fine.coarse_of);
    coarse.slot.resize(static_cast<size_t>(coarse.graph.num_verts));
    ++level;
    const int64_t percent = 100 * static_cast<int64_t>(coarse.graph.num_verts);
    if (percent > kMaxKeptPercent * static_cast<int64_t>(fine.graph.num_verts)) break;
  }
  return level;
}

// Projects the cut of one level to a finer one, and refines it on each level in between.
void MultilevelBisector::refine_up(size_t coarse, size_t fine, Cut& cut) {
  while (coarse > fine) {
    --coarse;
    project(levels_[coarse + 1], levels_[coarse], cut);
    GraphView view = levels_[coarse].graph.view();
    if (coarse == 0) view.vertex_weights = nullptr;
    refiner_.refine(view, levels_[coarse].side.data(), levels_[coarse].slot.data(), kNumPasses, cut);
  }
}

// Grows a side from a few seeds. The first is far from vertex 0, at the border of the side that grew from it; the second is
// found in the same way from the first; the others are spread over the order of the vertices.
void MultilevelBisector::cut_coarsest(Level& level, Cut& cut) {
  const GraphView view = level.graph.view();
  grow(level, 0, seed_cut_);
  int32_t seed = queue_.back();
  for (int32_t index = 0; index < kNumSeeds; ++index) {
    grow(level, seed, seed_cut_);
    seed = index == 0 ? queue_.back() : level.graph.num_verts / kNumSeeds * index;
    refiner_.refine(view, level.side.data(), level.slot.data(), kNumCoarsestPasses, seed_cut_);
    if (index == 0 || seed_cut_.cost() < cut.cost()) {
      std::swap(cut, seed_cut_);
      best_side_.swap(level.side);
    }
  }
  level.side.swap(best_side_);
}

// A side grows from the seed in rings; vertices that are reached but not yet part of it form the separator. It grows through
// the range of weights that keeps the sides balanced, then returns to the best cut.
void MultilevelBisector::grow(Level& level, int32_t seed, Cut& cut) {
  const WeightedGraph& graph = level.graph;
  level.side.assign(static_cast<size_t>(graph.num_verts), kRight);
  queue_.clear();
  Cut now;
  for (const int32_t weight : graph.vertex_weights) now.weights[kRight] += weight;
  const auto reach = [&](int32_t vertex) {
    level.side[static_cast<size_t>(vertex)] = kSeparator;
    queue_.push_back(vertex);
    now.weights[kRight] -= graph.vertex_weights[static_cast<size_t>(vertex)];
    now.weights[kSeparator] += graph.vertex_weights[static_cast<size_t>(vertex)];
  };
  const auto least = static_cast<int64_t>(kMinGrownShare * static_cast<double>(now.total()));
  double best_cost = std::numeric_limits<double>::infinity();
  size_t best_left = 0;
  size_t best_reached = 0;
  size_t num_left = 0;
  int32_t unreached = 0;  // all vertices before this one are reached
  reach(seed);
  while (now.weights[kRight] > 0) {
    if (num_left == queue_.size()) {  // a component is used up
      while (level.side[static_cast<size_t>(unreached)] != kRight) ++unreached;
      reach(unreached);
    }
    const auto vertex = static_cast<size_t>(queue_[num_left++]);
    now.weights[kLeft] += graph.vertex_weights[vertex];
    now.weights[kSeparator] -= graph.vertex_weights[vertex];
    for (int32_t edge = graph.offsets[vertex]; edge < graph.offsets[vertex + 1]; ++edge) {
      const int32_t neighbour = graph.neighbours[static_cast<size_t>(edge)];
      if (level.side[static_cast<size_t>(neighbour)] == kRight) reach(neighbour);
    }
    if (std::isfinite(best_cost) && now.weights[kRight] < least) break;
    if (now.weights[kLeft] < least && now.weights[kRight] > least) continue;
    const double cost = now.cost();
    if (cost >= best_cost) continue;
    best_cost = cost;
    best_left = num_left;
    best_reached = queue_.size();
    cut.weights = now.weights;
  }
  for (size_t index = 0; index < queue_.size(); ++index) {
    const uint8_t side = index < best_left ? kLeft : index < best_reached ? kSeparator : kRight;
    level.side[static_cast<size_t>(queue_[index])] = side;
  }
  cut.separator.assign(queue_.begin() + static_cast<std::ptrdiff_t>(best_left),
                       queue_.begin() + static_cast<std::ptrdiff_t>(best_reached));
}

// The cut of a coarse graph is a cut of the finer one, with the same weights.
void MultilevelBisector::project(const Level& coarse, Level& fine, Cut& cut) {
  const auto size = static_cast<size_t>(fine.graph.num_verts);
  fine.side.resize(size);
  cut.separator.clear();
  for (size_t vertex = 0; vertex < size; ++vertex) {
    const uint8_t side = coarse.side[static_cast<size_t>(fine.coarse_of[vertex])];
    fine.side[vertex] = side;
    if (side == kSeparator) cut.separator.push_back(static_cast<int32_t>(vertex));
  }
}

}  // namespace largesteps

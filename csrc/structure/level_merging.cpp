#include "level_merging.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

namespace largesteps {
namespace {

using Indices = std::vector<int32_t>;
using Costs = std::vector<double>;

// The cost of a level in the two sweeps of a solve, as the count of numbers that could be read in that time: about 6
// microseconds at 2.5 terabytes of float32 per second.
constexpr double kCostOfLevel = 4.0e6;
// The maximum number of cuts tried. Trees deeper than kMaxDepth are not merged; dissection of a mesh does not make such trees.
constexpr size_t kMaxLevels = 24;
constexpr size_t kMaxDepth = 256;
constexpr double kNever = std::numeric_limits<double>::infinity();

// The numbers of a supernode that a solve reads: its inverse once, the rows below twice. The elimination costs the third power,
// but is done once for many solves.
double numbers(double columns, double rows) {
  constexpr double kShareOfElimination = 1e-3;
  const double front = columns + rows;
  return columns * (columns + 2 * rows) + kShareOfElimination * columns * front * front;
}

// The best cuts of one tree for every number of levels.
class Tree {
 public:
  // cost(from, to) is the cost of all supernodes that begin at depth `from` and absorb everything above depth `to`.
  explicit Tree(size_t depth) : depth_(depth), cost_(depth * (depth + 1), 0) {}

  double& cost(size_t from, size_t to) { return cost_[from * (depth_ + 1) + to]; }

  void find_cuts() {
    const size_t num_levels = std::min(depth_, kMaxLevels);
    best_.assign(num_levels + 1, Costs(depth_ + 1, kNever));
    next_cut_.assign(num_levels + 1, std::vector<size_t>(depth_ + 1, depth_));
    best_[0][depth_] = 0;
    for (size_t levels = 1; levels <= num_levels; ++levels) {
      for (size_t from = 0; from < depth_; ++from) {
        for (size_t to = from + 1; to <= depth_; ++to) {
          const double total = cost(from, to) + best_[levels - 1][to];
          if (total < best_[levels][from]) {
            best_[levels][from] = total;
            next_cut_[levels][from] = to;
          }
        }
      }
    }
  }

  // With so many levels or fewer.
  size_t best_levels(size_t most) const {
    size_t best = 1;
    for (size_t levels = 2; levels <= std::min(most, best_.size() - 1); ++levels) {
      if (best_[levels][0] < best_[best][0]) best = levels;
    }
    return best;
  }
  double cost_with(size_t most) const { return best_[best_levels(most)][0]; }

  // For each depth, whether supernodes begin there.
  std::vector<bool> cuts(size_t most) const {
    std::vector<bool> result(depth_, false);
    size_t levels = best_levels(most);
    for (size_t from = 0; from < depth_; from = next_cut_[levels--][from]) result[from] = true;
    return result;
  }

 private:
  size_t depth_;
  Costs cost_;
  std::vector<Costs> best_;
  std::vector<std::vector<size_t>> next_cut_;
};

}  // namespace

Indices merge_levels(const Indices& parent, const Indices& columns, const Indices& rows) {
  const size_t num_nodes = parent.size();
  Indices merged_into(num_nodes), root(num_nodes);
  std::iota(merged_into.begin(), merged_into.end(), 0);
  std::vector<size_t> depth(num_nodes, 0), below(num_nodes, 0);  // from the root, and how many levels hang below
  size_t deepest = 0;
  for (size_t i = num_nodes; i-- > 0;) {
    const auto above = static_cast<size_t>(parent[i]);
    root[i] = parent[i] < 0 ? static_cast<int32_t>(i) : root[above];
    depth[i] = parent[i] < 0 ? 0 : depth[above] + 1;
    deepest = std::max(deepest, depth[i]);
  }
  if (deepest >= kMaxDepth) return merged_into;
  for (size_t i = 0; i < num_nodes; ++i) {
    if (parent[i] >= 0) below[static_cast<size_t>(parent[i])] = std::max(below[static_cast<size_t>(parent[i])], below[i] + 1);
  }

  // For each node the columns of its subtree, by depth. In postorder a subtree is complete when its root is visited; it is then
  // added to its parent and freed.
  std::vector<Tree> trees;
  std::vector<size_t> tree_of_root(num_nodes);
  for (size_t i = 0; i < num_nodes; ++i) {
    if (parent[i] >= 0) continue;
    tree_of_root[i] = trees.size();
    trees.emplace_back(below[i] + 1);
  }
  std::vector<Costs> columns_by_depth(num_nodes);
  for (size_t i = 0; i < num_nodes; ++i) {
    Costs& own = columns_by_depth[i];
    own.resize(below[i] + 1);
    own[0] = columns[i];
    Tree& tree = trees[tree_of_root[static_cast<size_t>(root[i])]];
    const size_t tree_depth = below[static_cast<size_t>(root[i])] + 1;
    double total = 0;
    for (size_t to = depth[i] + 1; to <= tree_depth; ++to) {
      if (to - depth[i] - 1 < own.size()) total += own[to - depth[i] - 1];
      tree.cost(depth[i], to) += numbers(total, rows[i]);
    }
    if (parent[i] < 0) continue;
    Costs& above = columns_by_depth[static_cast<size_t>(parent[i])];
    above.resize(below[static_cast<size_t>(parent[i])] + 1);
    for (size_t k = 0; k < own.size(); ++k) above[k + 1] += own[k];
    Costs().swap(own);
  }

  for (Tree& tree : trees) tree.find_cuts();
  size_t num_levels = 1;
  double least = kNever;
  for (size_t most = 1; most <= std::min(deepest + 1, kMaxLevels); ++most) {
    double total = kCostOfLevel * static_cast<double>(most);
    for (const Tree& tree : trees) total += tree.cost_with(most);
    if (total < least) {
      least = total;
      num_levels = most;
    }
  }
  std::vector<std::vector<bool>> cuts;
  for (const Tree& tree : trees) cuts.push_back(tree.cuts(num_levels));
  for (size_t i = num_nodes; i-- > 0;) {
    if (!cuts[tree_of_root[static_cast<size_t>(root[i])]][depth[i]]) {
      merged_into[i] = merged_into[static_cast<size_t>(parent[i])];
    }
  }
  return merged_into;
}

}  // namespace largesteps

#include "tasks.h"

#include <algorithm>

namespace largesteps {
namespace {

using Indices = std::vector<int32_t>;

// Tasks hold at most this many entries of the factor (in float32 a megabyte). A system too small for two such tasks, but worth
// sharing between two threads, becomes two tasks of equal weight, up to a few percent.
constexpr double kMaxTaskEntries = 262144;
constexpr double kMinTaskEntries = 16384;
constexpr double kBalance = 1.08;
constexpr int kMaxPieces = 4;

// The weight of each supernode's subtree: the entries of the factor, plus a cost per column.
std::vector<double> weigh_subtrees(const Symbolic& symbolic) {
  std::vector<double> weight(static_cast<size_t>(symbolic.num_supernodes()));
  for (int32_t s = 0; s < symbolic.num_supernodes(); ++s) {
    const double columns = symbolic.num_columns(s);
    weight[s] += columns * (0.5 * columns + symbolic.num_rows(s)) + 8 * columns;
    if (symbolic.parent[s] >= 0) weight[symbolic.parent[s]] += weight[s];
  }
  return weight;
}

// The roots of the largest subtrees that do not weigh more than the limit; upper receives what is above them.
Indices cut_tree(const Symbolic& symbolic, const std::vector<double>& weight, double limit, Indices& upper) {
  Indices subtrees;
  upper.clear();
  for (int32_t s = 0; s < symbolic.num_supernodes(); ++s) {
    const int32_t parent = symbolic.parent[s];
    if (weight[s] > limit && symbolic.subtree[s] < s) {
      upper.push_back(s);
    } else if (parent < 0 || weight[parent] > limit) {
      subtrees.push_back(s);
    }
  }
  return subtrees;
}

// Successive subtrees share a task while there is room.
std::vector<Indices> fill_tasks(const Indices& subtrees, const std::vector<double>& weight) {
  std::vector<Indices> tasks;
  double filled = 0;
  for (const int32_t root : subtrees) {
    if (tasks.empty() || filled + weight[root] > kMaxTaskEntries) {
      tasks.emplace_back();
      filled = 0;
    }
    filled += weight[root];
    tasks.back().push_back(root);
  }
  return tasks;
}

// Two tasks: each subtree, the heaviest first, goes to the lighter one. Returns the weight of the heavier task over the mean.
double fill_two_tasks(Indices subtrees, const std::vector<double>& weight, std::vector<Indices>& tasks) {
  std::stable_sort(subtrees.begin(), subtrees.end(), [&](int32_t a, int32_t b) { return weight[a] > weight[b]; });
  tasks.assign(2, {});
  double filled[2] = {};
  for (const int32_t root : subtrees) {
    const int lighter = filled[1] < filled[0] ? 1 : 0;
    filled[lighter] += weight[root];
    tasks[lighter].push_back(root);
  }
  for (Indices& roots : tasks) std::sort(roots.begin(), roots.end());
  if (tasks[1].empty()) tasks.pop_back();
  return 2 * std::max(filled[0], filled[1]) / (filled[0] + filled[1]);
}

}  // namespace

TaskCut cut_into_tasks(const Symbolic& symbolic) {
  const std::vector<double> weight = weigh_subtrees(symbolic);
  double total = 0;
  for (int32_t s = 0; s < symbolic.num_supernodes(); ++s) total += symbolic.parent[s] < 0 ? weight[s] : 0;
  TaskCut cut;
  if (total > 2 * kMaxTaskEntries || total < 2 * kMinTaskEntries) {
    cut.tasks = fill_tasks(cut_tree(symbolic, weight, kMaxTaskEntries, cut.upper), weight);
    return cut;
  }
  // If large pieces leave the two unbalanced, smaller ones are tried.
  for (int pieces = 2; pieces <= kMaxPieces; ++pieces) {
    const Indices subtrees = cut_tree(symbolic, weight, total / pieces, cut.upper);
    if (fill_two_tasks(subtrees, weight, cut.tasks) <= kBalance) break;
  }
  return cut;
}

}  // namespace largesteps

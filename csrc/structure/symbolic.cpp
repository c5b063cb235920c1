#include "symbolic.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "level_merging.h"

namespace largesteps {
namespace {

using Indices = std::vector<int32_t>;

// Rows of the nodes of the dissection, each node's columns taken as dense, in the numbering of the dissection.
struct NodeRows {
  Indices parent;     // the node of the first row below, or -1
  Indices row_start;  // num_nodes + 1
  Indices rows;
};

Indices inverse(const Indices& permutation) {
  Indices result(permutation.size());
  for (size_t i = 0; i < permutation.size(); ++i) result[permutation[i]] = static_cast<int32_t>(i);
  return result;
}

Indices node_of_column(const Indices& first) {
  Indices result(first.back());
  for (size_t i = 0; i + 1 < first.size(); ++i) {
    std::fill(result.begin() + first[i], result.begin() + first[i + 1], static_cast<int32_t>(i));
  }
  return result;
}

NodeRows find_rows(const Graph& graph, const DissectionTree& tree, const Indices& new_from_old) {
  const int32_t num_nodes = static_cast<int32_t>(tree.parent.size());
  const Indices node = node_of_column(tree.first);
  NodeRows result{Indices(num_nodes, -1), {0}, {}};
  Indices seen(graph.num_verts, -1), first_child(num_nodes, -1), next_child(num_nodes, -1);
  for (int32_t i = 0; i < num_nodes; ++i) {
    const int32_t end = tree.first[i + 1];
    const size_t start = result.rows.size();
    const auto add = [&](int32_t row) {
      if (row >= end && seen[row] != i) {
        seen[row] = i;
        result.rows.push_back(row);
      }
    };
    for (int32_t column = tree.first[i]; column < end; ++column) {
      const int32_t vertex = tree.old_from_new[column];
      for (int32_t k = graph.offsets[vertex]; k < graph.offsets[vertex + 1]; ++k) add(new_from_old[graph.neighbours[k]]);
    }
    for (int32_t child = first_child[i]; child >= 0; child = next_child[child]) {
      for (int32_t k = result.row_start[child]; k < result.row_start[child + 1]; ++k) add(result.rows[k]);
    }
    if (result.rows.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
      throw std::length_error("the rows of the factor need more than 31 bits");
    }
    std::sort(result.rows.begin() + static_cast<std::ptrdiff_t>(start), result.rows.end());
    result.row_start.push_back(static_cast<int32_t>(result.rows.size()));
    if (result.rows.size() > start) {
      const int32_t parent = node[result.rows[start]];
      result.parent[i] = parent;
      next_child[i] = first_child[parent];
      first_child[parent] = i;
    }
  }
  return result;
}

double solve_cost(double columns, double rows, const SymbolicOptions& options) {
  return columns * (0.5 * columns + rows) + options.row_cost * (columns + rows) + options.node_cost;
}

// For each node the node into which it is merged (itself, if it stays).
Indices merge(const NodeRows& nodes, const Indices& first, const SymbolicOptions& options) {
  const int32_t num_nodes = static_cast<int32_t>(nodes.parent.size());
  Indices merged_into(num_nodes), columns(num_nodes);
  std::iota(merged_into.begin(), merged_into.end(), 0);
  for (int32_t i = 0; i < num_nodes; ++i) columns[i] = first[i + 1] - first[i];
  // In postorder each child is final when it is visited, while earlier children may have enlarged its parent.
  for (int32_t i = 0; i < num_nodes; ++i) {
    const int32_t parent = nodes.parent[i];
    if (parent < 0) continue;
    const int32_t rows = nodes.row_start[i + 1] - nodes.row_start[i];
    const int32_t parent_rows = nodes.row_start[parent + 1] - nodes.row_start[parent];
    const double apart = solve_cost(columns[i], rows, options) + solve_cost(columns[parent], parent_rows, options);
    if (solve_cost(columns[i] + columns[parent], parent_rows, options) < apart) {
      merged_into[i] = parent;
      columns[parent] += columns[i];
    }
  }
  for (int32_t i = num_nodes - 1; i >= 0; --i) merged_into[i] = merged_into[merged_into[i]];
  return merged_into;
}

Indices merge_whole_levels(const NodeRows& nodes, const Indices& first) {
  Indices columns, rows;
  for (size_t i = 0; i < nodes.parent.size(); ++i) {
    columns.push_back(first[i + 1] - first[i]);
    rows.push_back(nodes.row_start[i + 1] - nodes.row_start[i]);
  }
  return merge_levels(nodes.parent, columns, rows);
}

// The nodes that stay, children before parents and every subtree contiguous; without recursion, for deep trees.
Indices postorder(const Indices& parent, const Indices& merged_into) {
  const int32_t num_nodes = static_cast<int32_t>(parent.size());
  Indices first_child(num_nodes, -1), next(num_nodes, -1), stack, order;
  int32_t first_root = -1;
  for (int32_t i = num_nodes - 1; i >= 0; --i) {
    if (merged_into[i] != i) continue;
    int32_t& head = parent[i] < 0 ? first_root : first_child[merged_into[parent[i]]];
    next[i] = head;
    head = i;
  }
  for (int32_t root = first_root; root >= 0; root = next[root]) {
    stack.push_back(root);
    while (!stack.empty()) {
      const int32_t top = stack.back();
      const int32_t child = first_child[top];
      if (child >= 0) {
        first_child[top] = next[child];
        stack.push_back(child);
      } else {
        order.push_back(top);
        stack.pop_back();
      }
    }
  }
  return order;
}

void find_tree(Symbolic& result) {
  const int32_t num_supernodes = static_cast<int32_t>(result.row_start.size()) - 1;
  const Indices supernode = node_of_column(result.first);
  result.parent.assign(num_supernodes, -1);
  result.subtree.resize(num_supernodes);
  result.height.assign(num_supernodes, 0);
  result.rows_in_parent.resize(result.rows.size());
  std::iota(result.subtree.begin(), result.subtree.end(), 0);
  for (int32_t s = 0; s < num_supernodes; ++s) {
    result.num_levels = std::max(result.num_levels, result.height[s] + 1);
    if (result.num_rows(s) == 0) continue;
    const int32_t parent = supernode[result.rows[result.row_start[s]]];
    result.parent[s] = parent;
    result.subtree[parent] = std::min(result.subtree[parent], result.subtree[s]);
    result.height[parent] = std::max(result.height[parent], result.height[s] + 1);
    int32_t in_parent = result.row_start[parent];
    for (int32_t k = result.row_start[s]; k < result.row_start[s + 1]; ++k) {
      const int32_t row = result.rows[k];
      if (row < result.first[parent + 1]) {
        result.rows_in_parent[k] = row - result.first[parent];
      } else {
        while (result.rows[in_parent] < row) ++in_parent;
        result.rows_in_parent[k] = result.num_columns(parent) + in_parent - result.row_start[parent];
      }
    }
  }
}

}  // namespace

int64_t Symbolic::factor_entries() const {
  int64_t entries = 0;
  for (int32_t s = 0; s < num_supernodes(); ++s) {
    const int64_t columns = num_columns(s);
    entries += columns * (columns + 1) / 2 + columns * num_rows(s);
  }
  return entries;
}

Symbolic analyze(const Graph& graph, const double* positions, const SymbolicOptions& options) {
  const DissectionTree tree = nested_dissection(graph, positions, options.dissection);
  const NodeRows nodes = find_rows(graph, tree, inverse(tree.old_from_new));
  const Indices merged_into =
      options.merges_levels ? merge_whole_levels(nodes, tree.first) : merge(nodes, tree.first, options);
  const Indices order = postorder(nodes.parent, merged_into);

  Symbolic result;
  result.num_verts = graph.num_verts;
  Indices first_part(tree.parent.size(), -1), next_part(tree.parent.size(), -1);
  for (int32_t i = static_cast<int32_t>(tree.parent.size()) - 1; i >= 0; --i) {
    next_part[i] = first_part[merged_into[i]];
    first_part[merged_into[i]] = i;
  }
  Indices renumbered(graph.num_verts);  // from the numbering of the dissection
  result.first.push_back(0);
  for (const int32_t node : order) {
    for (int32_t part = first_part[node]; part >= 0; part = next_part[part]) {
      for (int32_t column = tree.first[part]; column < tree.first[part + 1]; ++column) {
        renumbered[column] = static_cast<int32_t>(result.old_from_new.size());
        result.old_from_new.push_back(tree.old_from_new[column]);
      }
    }
    result.first.push_back(static_cast<int32_t>(result.old_from_new.size()));
  }
  result.new_from_old = inverse(result.old_from_new);
  result.row_start.push_back(0);
  for (const int32_t node : order) {
    const size_t start = result.rows.size();
    for (int32_t k = nodes.row_start[node]; k < nodes.row_start[node + 1]; ++k) {
      result.rows.push_back(renumbered[nodes.rows[k]]);
    }
    std::sort(result.rows.begin() + static_cast<std::ptrdiff_t>(start), result.rows.end());
    result.row_start.push_back(static_cast<int32_t>(result.rows.size()));
  }
  find_tree(result);
  return result;
}

}  // namespace largesteps

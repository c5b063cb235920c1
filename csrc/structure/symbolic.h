// The structure of the factor: supernodes (groups of columns that share their rows), their tree and their rows.
//
// Source: Duff, Reid, "The Multifrontal Solution of Indefinite Sparse Symmetric Linear Equations", ACM TOMS 9(3), 1983;
// the merging of supernodes: Ashcraft, Grimes, "The Influence of Relaxed Supernode Partitions on the Multifrontal
// Method", ACM TOMS 15(4), 1989.
#pragma once

#include <cstdint>
#include <vector>

#include "../dissection/graph.h"
#include "../dissection/ordering.h"

namespace largesteps {

// Supernode s holds the columns first[s], ..., first[s + 1] - 1 of the reordered matrix and, below them, the rows
// rows[row_start[s]], ..., rows[row_start[s + 1] - 1], in increasing order. Supernodes stand in postorder: the subtree of
// s is the range of supernodes subtree[s], ..., s, and a range of columns.
struct Symbolic {
  int32_t num_verts = 0;
  int32_t num_levels = 0;               // of the tree
  std::vector<int32_t> old_from_new;    // num_verts
  std::vector<int32_t> new_from_old;    // num_verts
  std::vector<int32_t> first;           // num_supernodes + 1
  std::vector<int32_t> parent;          // num_supernodes: the supernode of the first row below, or -1
  std::vector<int32_t> subtree;         // num_supernodes
  std::vector<int32_t> height;          // num_supernodes: 0 at the leaves, else one more than the highest child's
  std::vector<int32_t> row_start;       // num_supernodes + 1
  std::vector<int32_t> rows;            // global indices
  std::vector<int32_t> rows_in_parent;  // where each row stands among the parent's columns (first) and rows (after them)

  int32_t num_supernodes() const { return static_cast<int32_t>(parent.size()); }
  int32_t num_columns(int32_t s) const { return first[s + 1] - first[s]; }
  int32_t num_rows(int32_t s) const { return row_start[s + 1] - row_start[s]; }
  // Entries of the triangular factor, diagonal included, with the zeros inside supernodes.
  int64_t factor_entries() const;
};

struct SymbolicOptions {
  DissectionOptions dissection;
  // A supernode is merged into its parent if that makes the solve cheaper. Handling a supernode costs as much as node_cost
  // entries of the factor; gathering and scattering one of its rows costs row_cost.
  double row_cost = 3.0;
  double node_cost = 20.0;
  bool merges_levels = false;  // instead, whole levels are: see level_merging.h
};

// Throws std::length_error if an index does not fit into 31 bits.
Symbolic analyze(const Graph& graph, const double* positions, const SymbolicOptions& options);

}  // namespace largesteps

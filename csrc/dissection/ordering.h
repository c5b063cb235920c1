// Nested dissection: an order of elimination and the tree of separators it comes from.
//
// Source: George, "Nested Dissection of a Regular Finite Element Mesh", SIAM J. Numer. Anal. 10(2), 1973.
#pragma once

#include <cstdint>
#include <vector>

#include "graph.h"

namespace largesteps {

struct DissectionOptions {
  int32_t leaf_size = 16;  // parts of at most this many vertices are not cut further
  int num_threads = 1;     // the result does not depend on it
};

// Nodes are separators and, at the bottom, uncut parts. Children precede parents. An edge of the graph joins only vertices of
// the same node, or of two nodes of which one is an ancestor of the other.
struct DissectionTree {
  std::vector<int32_t> old_from_new;  // vertices in the order of elimination, node after node
  std::vector<int32_t> first;         // num_nodes + 1: node i holds old_from_new[first[i]], ..., old_from_new[first[i + 1] - 1]
  std::vector<int32_t> parent;        // num_nodes: parent[i] > i, or -1 at a root
};

// With positions (num_verts, 3) parts are cut across their axes of inertia; without (nullptr) by multilevel bisection.
DissectionTree nested_dissection(const Graph& graph, const double* positions, const DissectionOptions& options);

}  // namespace largesteps

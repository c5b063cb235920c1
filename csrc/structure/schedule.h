// Storage of a factor and the order in which its supernodes are visited.
//
// The lower part of the tree is cut into tasks, sets of whole subtrees small enough for a core's own cache; the supernodes
// above are visited one by one. The threads share these nodes, tasks and upper supernodes. The cut depends only on the factor,
// so no result depends on the number of threads. See tasks.h.
//
// Inside a task, supernodes of equal height are independent. Small ones form groups of up to kLanes, stored interleaved: each
// number is next to the same number of the others, so one vector instruction works for all. See groups.h.
//
// A task may hold roots with different parents, so the nodes form an acyclic graph, not a tree.
//
// A solve works on rows of numbers, one row per vertex in the new order. Contributions of a supernode to rows outside its task
// go to the slots of the task's root (rows after those of the vertices), from which the parent reads them.
#pragma once

#include <cstdint>
#include <vector>

#include "symbolic.h"

namespace largesteps {

struct Schedule {
  int32_t num_tasks = 0;
  int32_t workspace_rows = 0;        // vertices; for each node its slots and kLanes rows that stand in where indices are padded
  int64_t factor_size = 0;           // numbers, a multiple of kLanes
  // Nodes are the tasks and then the upper supernodes, children before parents.
  std::vector<int32_t> node_groups;  // num_nodes + 1: the groups of each node, in the order of the forward sweep
  std::vector<int32_t> node_root_start, node_roots;      // the roots of a task's subtrees; an upper supernode itself
  std::vector<int32_t> root_parents;                     // for each of node_roots the node above it, or -1
  std::vector<int32_t> node_child_start, node_children;  // of an upper supernode: the supernodes right below it
  std::vector<int32_t> child_nodes;                      // for each of node_children the node it belongs to
  std::vector<int32_t> slots;        // num_supernodes: the first slot of a root or upper supernode, else -1
  std::vector<int32_t> group_columns, group_rows;         // the largest of the members'
  std::vector<int32_t> group_g, group_p;                  // where its G and -P start in the factor, in units of kLanes
  std::vector<int32_t> group_indices;                     // where its row indices start in indices
  std::vector<int32_t> group_member_start, group_members;  // one supernode, or up to kLanes of them
  // Rows of the workspace for the columns and then the rows of a group. Of a group of several: for each column and each
  // row, kLanes of them. Of a single supernode: one each, both parts padded to multiples of kLanes. An upper supernode
  // has two lists: its rows are its slots in the forward sweep and the rows themselves in the backward sweep.
  std::vector<int32_t> indices;
};

Schedule make_schedule(const Symbolic& symbolic);

}  // namespace largesteps

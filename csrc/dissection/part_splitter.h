// One step of nested dissection: a part of the vertices becomes a node of the tree, or two parts and a separator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bisection_geometric.h"
#include "bisection_multilevel.h"
#include "graph.h"
#include "placed_vertices.h"
#include "separator_refinement.h"

namespace largesteps {

// A part still to be cut: the range of the elimination order that its vertices will occupy.
struct Part {
  int32_t begin = 0;
  int32_t end = 0;
  bool use_positions = false;

  int32_t size() const { return end - begin; }
};

// The state of a dissection. The vertices of a part are contiguous in ids. A cut puts the left side first, then the right side,
// then the separator, which is already the order of elimination. Different parts share no element of these arrays, so they can
// be split in parallel and in any order.
struct Dissection {
  const Graph& graph;
  GraphView view;
  std::vector<PlacedVertex> points;  // of the vertices in ids; empty without positions
  std::vector<int32_t> ids;
  std::vector<uint8_t> side;           // of each vertex; kOutside for vertices of separators
  std::vector<int32_t> slot;           // scratch memory for each vertex
  std::vector<int32_t> subtree_begin;  // at the begin of a node: the begin of its first descendant; else -1

  void add_node(int32_t begin, int32_t descendants) { subtree_begin[static_cast<size_t>(begin)] = descendants; }
};

// Reuses its memory between parts, because most parts are small.
class PartSplitter {
 public:
  explicit PartSplitter(Dissection& dissection) : dissection_(dissection) {}

  // Cuts a part and appends its two children; without a useful cut, makes the part a node.
  void split(Part part, std::vector<Part>& children);

 private:
  bool find_cut(const Part& part, bool& positions_help);
  bool is_poor(const Part& part) const;
  bool try_multilevel(const Part& part);
  void arrange(const Part& part);

  Dissection& dissection_;
  GeometricBisector geometric_;
  MultilevelBisector multilevel_;
  Cut cut_;
  Cut other_cut_;
  std::vector<uint8_t> saved_side_;
  std::vector<int32_t> moved_ids_;
  std::vector<PlacedVertex> moved_points_;
};

}  // namespace largesteps

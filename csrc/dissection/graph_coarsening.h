// Coarser graphs with the shape of a large one: pairs of vertices are merged.
#pragma once

#include <cstdint>
#include <vector>

#include "separator_refinement.h"

namespace largesteps {

// Like Graph, with weights: the number of original vertices and edges that each vertex and edge represents.
struct WeightedGraph {
  int32_t num_verts = 0;
  std::vector<int32_t> offsets;
  std::vector<int32_t> neighbours;  // in no particular order
  std::vector<int32_t> edge_weights;
  std::vector<int32_t> vertex_weights;

  GraphView view() const { return {offsets.data(), neighbours.data(), vertex_weights.data()}; }
};

// Reuses its memory between calls.
class GraphCoarsener {
 public:
  // Merges vertices along heavy edges while a pair weighs at most max_weight, then left-over vertices with a common neighbour.
  // coarse_of receives the coarse vertex of each vertex. Each `variant` from 0 on visits the vertices in a different order.
  void coarsen(const WeightedGraph& fine, int32_t max_weight, int32_t variant, WeightedGraph& coarse,
               std::vector<int32_t>& coarse_of);

 private:
  void match(const WeightedGraph& fine, int32_t max_weight, int32_t variant);
  void contract(const WeightedGraph& fine, const std::vector<int32_t>& coarse_of, WeightedGraph& coarse);

  std::vector<int32_t> partner_;  // of each vertex; the vertex itself if it stays alone
  std::vector<int32_t> waiting_;  // per vertex a neighbour that is left over so far
  std::vector<int32_t> position_;  // of each coarse vertex among the neighbours in the row being written
};

}  // namespace largesteps

// Smaller graphs that look like a large one: pairs of vertices are merged.
#pragma once

#include <cstdint>
#include <vector>

#include "separator_refinement.h"

namespace largesteps {

// As Graph, with the number of vertices and edges of the part that each vertex and edge stands for.
struct WeightedGraph {
  int32_t num_verts = 0;
  std::vector<int32_t> offsets;
  std::vector<int32_t> neighbours;  // in no particular order
  std::vector<int32_t> edge_weights;
  std::vector<int32_t> vertex_weights;

  GraphView view() const { return {offsets.data(), neighbours.data(), vertex_weights.data()}; }
};

// Keeps its memory from one call to the next.
class GraphCoarsener {
 public:
  // Merges vertices along heavy edges as long as together they weigh no more than max_weight, and such that are left
  // over if they have a neighbour in common. coarse_of receives the coarse vertex of each vertex. Each `variant` from 0
  // on goes through the vertices in another order.
  void coarsen(const WeightedGraph& fine, int32_t max_weight, int32_t variant, WeightedGraph& coarse,
               std::vector<int32_t>& coarse_of);

 private:
  void match(const WeightedGraph& fine, int32_t max_weight, int32_t variant);
  void contract(const WeightedGraph& fine, const std::vector<int32_t>& coarse_of, WeightedGraph& coarse);

  std::vector<int32_t> partner_;  // of each vertex; the vertex itself if it stays alone
  std::vector<int32_t> waiting_;  // a neighbour of each vertex that is left over so far
  std::vector<int32_t> position_;  // of each coarse vertex among the neighbours in the row being written
};

}  // namespace largesteps

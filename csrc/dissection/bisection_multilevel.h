// Cuts of a part by its graph alone: the graph is coarsened, the coarsest graph is cut, and the cut is refined during
// uncoarsening.
//
// Source: Karypis, Kumar, "A Fast and High Quality Multilevel Scheme for Partitioning Irregular Graphs", SIAM J. Sci.
// Comput. 20(1), 1998.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph_coarsening.h"
#include "separator_refinement.h"

namespace largesteps {

// Reuses its memory between calls, because most parts are small.
class MultilevelBisector {
 public:
  // Cuts the part of the vertices ids[0], ..., ids[num_verts - 1] and writes all their sides. On entry `side` marks those of
  // their neighbours that are kOutside; `slot` is scratch memory for every vertex.
  void cut(const GraphView& graph, const int32_t* ids, int32_t num_verts, uint8_t* side, int32_t* slot, Cut& cut);

 private:
  struct Level {
    WeightedGraph graph;
    std::vector<int32_t> coarse_of;  // the vertex of the next level that each vertex is part of
    std::vector<uint8_t> side;
    std::vector<int32_t> slot;
  };

  void extract(const GraphView& graph, const int32_t* ids, int32_t num_verts, const uint8_t* side, int32_t* slot);
  size_t coarsen(size_t level, int32_t num_verts, int32_t variant);
  void refine_up(size_t coarse, size_t fine, Cut& cut);
  void cut_coarsest(Level& level, Cut& cut);
  void grow(Level& level, int32_t seed, Cut& cut);
  void project(const Level& coarse, Level& fine, Cut& cut);

  std::vector<Level> levels_;  // the part itself first
  GraphCoarsener coarsener_;
  SeparatorRefiner refiner_;
  Cut trial_;
  Cut seed_cut_;
  std::vector<uint8_t> middle_side_;  // of the best trial
  std::vector<uint8_t> best_side_;    // of the best seed
  std::vector<int32_t> queue_;
};

}  // namespace largesteps

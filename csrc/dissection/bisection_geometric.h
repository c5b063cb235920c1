// Cuts of a part by planes: fast, and good where neighbours in the graph are neighbours in space.
#pragma once

#include <cstdint>
#include <vector>

#include "cutting_planes.h"
#include "placed_vertices.h"
#include "separator_refinement.h"

namespace largesteps {

// Reuses its memory between calls, because most parts are small.
class GeometricBisector {
 public:
  // Cuts the part of the vertices ids[0], ..., ids[num_verts - 1], which lie at the points of the same indices, and
  // writes all their sides. Large parts are cut in more than one way and the best cut is kept. `slot` is scratch memory
  // for every vertex.
  void cut(const GraphView& graph, const int32_t* ids, const PlacedVertex* points, int32_t num_verts, uint8_t* side,
           int32_t* slot, Cut& cut);

 private:
  void cut_at(const Plane& plane, const GraphView& graph, const int32_t* ids, const PlacedVertex* points,
              int32_t num_verts, uint8_t* side, int32_t* slot, Cut& cut);
  float median(float lowest, float highest);

  PlaneChooser chooser_;
  SeparatorRefiner refiner_;
  std::vector<float> heights_;
  std::vector<float> around_median_;
  std::vector<int32_t> candidates_;
  std::vector<uint8_t> best_side_;
  Cut trial_;
};

}  // namespace largesteps

// An undirected graph in compressed rows: both directions of every edge, no loops.
#pragma once

#include <cstdint>
#include <vector>

namespace largesteps {

struct Graph {
  int32_t num_verts = 0;
  std::vector<int32_t> offsets;     // num_verts + 1
  std::vector<int32_t> neighbours;  // offsets[num_verts], those of each vertex in increasing order
};

}  // namespace largesteps

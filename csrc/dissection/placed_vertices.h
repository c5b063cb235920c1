// Positions in the form that the cuts of parts use.
#pragma once

#include <vector>

#include "graph.h"

namespace largesteps {

// A vertex with a bound of the length of its longest edge, in coordinates that scale all vertices into the cube from -1 to 1.
// Single precision is enough, because the bound includes the rounding error.
struct PlacedVertex {
  float x;
  float y;
  float z;
  float reach;
};

// Empty if a position or a distance is not finite.
std::vector<PlacedVertex> place_vertices(const Graph& graph, const double* positions, int num_threads);

}  // namespace largesteps

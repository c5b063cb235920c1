// Positions as the cuts of parts need them.
#pragma once

#include <vector>

#include "graph.h"

namespace largesteps {

// A vertex with a bound of the length of its longest edge, in coordinates that put all vertices into the cube from -1
// to 1. Single precision will do, because the bound allows for what it rounds off.
struct PlacedVertex {
  float x;
  float y;
  float z;
  float reach;
};

// Empty if a position is not finite, or so large that distances are not.
std::vector<PlacedVertex> place_vertices(const Graph& graph, const double* positions, int num_threads);

}  // namespace largesteps

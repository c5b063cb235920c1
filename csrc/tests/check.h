// What the test programs share: a macro that counts failures, and systems to solve.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "../structure/analysis.h"
#include "sample_graphs.h"

namespace largesteps {

inline int num_failures = 0;
inline std::string current_case;

// Counts instead of ending the program, so that one run shows everything that is wrong.
#define CHECK(condition)                                                                                         \
  do {                                                                                                           \
    if (!(condition) && ++::largesteps::num_failures < 50) {                                                     \
      std::printf("%s:%d: %s: failed: %s\n", __FILE__, __LINE__, ::largesteps::current_case.c_str(), #condition); \
    }                                                                                                            \
  } while (false)

// M = I + 19 L, L the combinatorial Laplacian: all its entries are integers, exact in single precision too.
struct System {
  std::string name;
  int32_t num_verts = 0;
  std::vector<int64_t> crow, columns;
  std::vector<double> values;
  Positions positions;

  size_t diagonal(int32_t vertex) const {
    const auto row = static_cast<size_t>(vertex);
    const auto begin = columns.begin() + crow[row], end = columns.begin() + crow[row + 1];
    return static_cast<size_t>(std::lower_bound(begin, end, vertex) - columns.begin());
  }
};

// Without positions they are drawn from a few points, so that many coincide.
inline System make_system(const std::string& name, const Graph& graph, Positions positions = {}) {
  constexpr double kLambda = 19;
  System system{name, graph.num_verts, {0}, {}, {}, std::move(positions)};
  for (int32_t row = 0; row < graph.num_verts; ++row) {
    const auto begin = graph.neighbours.begin() + graph.offsets[static_cast<size_t>(row)];
    const auto end = graph.neighbours.begin() + graph.offsets[static_cast<size_t>(row) + 1];
    const auto middle = std::lower_bound(begin, end, row);
    system.columns.insert(system.columns.end(), begin, middle);
    system.columns.push_back(row);
    system.columns.insert(system.columns.end(), middle, end);
    system.crow.push_back(static_cast<int64_t>(system.columns.size()));
    system.values.resize(system.columns.size(), -kLambda);
    system.values[system.diagonal(row)] = 1 + kLambda * static_cast<double>(end - begin);
  }
  Numbers numbers(static_cast<uint64_t>(graph.num_verts));
  while (system.positions.size() < 3 * static_cast<size_t>(graph.num_verts)) system.positions.push_back(numbers.below(7));
  return system;
}

inline std::vector<int32_t> analyze_system(const System& system, bool use_positions, int num_threads) {
  SymbolicOptions options;
  options.dissection.num_threads = num_threads;
  return analyze_pattern(system.num_verts, system.crow.data(), system.columns.data(),
                         use_positions ? system.positions.data() : nullptr, options);
}

inline System make_grid(const std::string& name, int32_t width, int32_t height, int32_t depth) {
  Positions positions;
  const Graph graph = grid(width, height, depth, true, positions);
  return make_system(name, graph, positions);
}

inline System make_torus(int32_t around, int32_t across) {
  Positions positions;
  const Graph graph = torus(around, across, positions);
  return make_system("torus", graph, positions);
}

// A wheel without its rim is a star, with an open rim a fan.
inline System make_fan(int32_t num_verts, bool rim) {
  Edges edges;
  for (int32_t vertex = 1; vertex < num_verts; ++vertex) {
    edges.emplace_back(0, vertex);
    if (rim && vertex > 1) edges.emplace_back(vertex - 1, vertex);
  }
  return make_system(rim ? "fan" : "star", graph_of(num_verts, edges));
}

// A complete graph with a path at its last vertex: a single large front, and a system large enough to be shared.
inline System make_kite(const std::string& name, int32_t num_complete, int32_t num_path) {
  Edges edges;
  for (int32_t one = 0; one < num_complete; ++one) {
    for (int32_t two = 0; two < one; ++two) edges.emplace_back(one, two);
  }
  for (int32_t vertex = num_complete; vertex < num_complete + num_path; ++vertex) edges.emplace_back(vertex - 1, vertex);
  return make_system(name, graph_of(num_complete + num_path, edges));
}

inline System make_random(uint64_t seed, int32_t max_verts) {
  Numbers numbers(seed);
  const int32_t num_verts = 1 + numbers.below(max_verts), num_edges = numbers.below(1 + num_verts * 3);
  const int32_t spread = seed % 2 == 0 ? num_verts : 1 + numbers.below(20);  // neighbours near in the numbering, or not
  Edges edges;
  for (int32_t edge = 0; edge < num_edges; ++edge) {
    const int32_t one = numbers.below(num_verts), two = std::min(num_verts - 1, one + numbers.below(spread));
    edges.emplace_back(one, two);
  }
  return make_system("random graph " + std::to_string(seed), graph_of(num_verts, edges));
}

// Tori of several sizes and isolated vertices, joined by nothing: sweeps go down in one while they go up in another.
inline System make_scattered() {
  Edges edges;
  Positions all_positions;
  int32_t num_verts = 0;
  for (const int32_t across : {30, 25, 5, 3}) {
    Positions positions;
    const Graph part = torus(40, across, positions);
    for (int32_t row = 0; row < part.num_verts; ++row) {
      for (int32_t k = part.offsets[static_cast<size_t>(row)]; k < part.offsets[static_cast<size_t>(row) + 1]; ++k) {
        edges.emplace_back(num_verts + row, num_verts + part.neighbours[static_cast<size_t>(k)]);
      }
    }
    all_positions.insert(all_positions.end(), positions.begin(), positions.end());
    num_verts += part.num_verts;
  }
  return make_system("scattered", graph_of(num_verts + 100, edges), std::move(all_positions));
}

}  // namespace largesteps

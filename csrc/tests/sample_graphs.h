// Graphs and positions for the tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "../dissection/graph.h"

namespace largesteps {

using Edges = std::vector<std::pair<int32_t, int32_t>>;
using Positions = std::vector<double>;

// Numbers that look random and are the same everywhere.
class Numbers {
 public:
  explicit Numbers(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 1) {}
  int32_t below(int32_t bound) {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<int32_t>((state_ >> 33) % static_cast<uint64_t>(bound));
  }

 private:
  uint64_t state_;
};

inline Graph graph_of(int32_t num_verts, Edges edges) {
  const size_t num_edges = edges.size();
  for (size_t index = 0; index < num_edges; ++index) edges.emplace_back(edges[index].second, edges[index].first);
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  Graph graph;
  graph.num_verts = num_verts;
  graph.offsets.assign(static_cast<size_t>(num_verts) + 1, 0);
  for (const auto& edge : edges) {
    if (edge.first == edge.second) continue;
    ++graph.offsets[static_cast<size_t>(edge.first) + 1];
    graph.neighbours.push_back(edge.second);
  }
  for (size_t vertex = 0; vertex < static_cast<size_t>(num_verts); ++vertex) {
    graph.offsets[vertex + 1] += graph.offsets[vertex];
  }
  return graph;
}

// The vertices of a grid, joined to those next to them; `diagonals` makes triangles or tetrahedra of the cells.
inline Graph grid(int32_t width, int32_t height, int32_t depth, bool diagonals, Positions& positions) {
  Edges edges;
  positions.clear();
  const auto id = [&](int32_t x, int32_t y, int32_t z) { return (z * height + y) * width + x; };
  for (int32_t z = 0; z < depth; ++z) {
    for (int32_t y = 0; y < height; ++y) {
      for (int32_t x = 0; x < width; ++x) {
        for (const int32_t value : {x, y, z}) positions.push_back(value);
        for (int32_t step = 1; step < 8; ++step) {
          const int32_t dx = step & 1, dy = (step >> 1) & 1, dz = step >> 2;
          if (!diagonals && dx + dy + dz > 1) continue;
          if (x + dx >= width || y + dy >= height || z + dz >= depth) continue;
          edges.emplace_back(id(x, y, z), id(x + dx, y + dy, z + dz));
        }
      }
    }
  }
  return graph_of(width * height * depth, std::move(edges));
}

// A torus of triangles in space.
inline Graph torus(int32_t around, int32_t across, Positions& positions) {
  const double turn = 2 * std::acos(-1.0);
  Edges edges;
  positions.clear();
  const auto id = [&](int32_t u, int32_t v) { return (u % around) * across + v % across; };
  for (int32_t u = 0; u < around; ++u) {
    for (int32_t v = 0; v < across; ++v) {
      const double radius = 3 + std::cos(turn * v / across);
      for (const double value : {radius * std::cos(turn * u / around), radius * std::sin(turn * u / around),
                                 std::sin(turn * v / across)}) {
        positions.push_back(value);
      }
      for (const int32_t next : {id(u + 1, v), id(u, v + 1), id(u + 1, v + 1)}) edges.emplace_back(id(u, v), next);
    }
  }
  return graph_of(around * across, std::move(edges));
}

// Positions that have nothing to do with a graph.
inline std::vector<Positions> nonsense(int32_t num_verts) {
  const size_t size = 3 * static_cast<size_t>(num_verts);
  std::vector<Positions> all(5, Positions(size, 1.5));  // the first: all equal
  Numbers numbers(7);
  for (size_t index = 0; index < size; ++index) {
    all[1][index] = numbers.below(1000000) * 1e-3;
    all[2][index] = numbers.below(2);  // on the corners of a cube
    all[3][index] = (numbers.below(3) - 1) * 1.7e308;
    all[4][index] = index < 3 ? 1e6 : numbers.below(1000) * 1e-9;  // one far away from all others
  }
  return all;
}

}  // namespace largesteps

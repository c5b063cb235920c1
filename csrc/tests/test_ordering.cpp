// Tests of nested_dissection(): that its trees are valid, low and the same for any number of threads.
//
// g++ -std=c++17 csrc/tests/test_ordering.cpp csrc/dissection/{ordering,part_splitter,bisection_geometric,
//     bisection_multilevel,graph_coarsening,separator_refinement,placed_vertices,cutting_planes,parallel,team}.cpp
//     -pthread
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "../dissection/ordering.h"
#include "sample_graphs.h"

namespace {

using namespace largesteps;

int num_failures = 0;
std::string current_case;

#define CHECK(condition)                                                                              \
  do {                                                                                                \
    if (!(condition)) {                                                                               \
      ++num_failures;                                                                                 \
      std::printf("%s:%d: %s: failed: %s\n", __FILE__, __LINE__, current_case.c_str(), #condition);   \
    }                                                                                                 \
  } while (false)

constexpr int32_t kAnyHeight = std::numeric_limits<int32_t>::max();

int32_t mesh_height(int32_t num_verts) { return static_cast<int32_t>(3 * std::log2(num_verts)) + 10; }

void check_tree(const Graph& graph, const DissectionTree& tree, int32_t max_height) {
  const auto size = static_cast<size_t>(graph.num_verts);
  const size_t num_nodes = tree.parent.size();
  CHECK(tree.old_from_new.size() == size);
  CHECK(tree.first.size() == num_nodes + 1);
  CHECK(tree.first.front() == 0 && tree.first.back() == graph.num_verts);
  if (tree.old_from_new.size() != size || tree.first.size() != num_nodes + 1) return;

  std::vector<int32_t> height(num_nodes, 1);
  bool ordered = true;
  for (size_t node = 0; node < num_nodes; ++node) {
    ordered = ordered && tree.first[node] < tree.first[node + 1];
    const int32_t parent = tree.parent[node];
    if (parent == -1) continue;
    const bool above = parent > static_cast<int32_t>(node) && parent < static_cast<int32_t>(num_nodes);
    ordered = ordered && above;
    if (!above) continue;
    int32_t& parent_height = height[static_cast<size_t>(parent)];
    parent_height = std::max(parent_height, height[node] + 1);
  }
  CHECK(ordered);  // no empty nodes, children before parents
  if (!ordered) return;
  for (const int32_t nodes : height) CHECK(nodes <= max_height);

  std::vector<int32_t> node_of(size, -1);
  bool permutation = true;
  for (size_t node = 0; node < num_nodes; ++node) {
    for (int32_t place = tree.first[node]; place < tree.first[node + 1]; ++place) {
      const int32_t vertex = tree.old_from_new[static_cast<size_t>(place)];
      permutation = permutation && vertex >= 0 && vertex < graph.num_verts && node_of[static_cast<size_t>(vertex)] < 0;
      if (!permutation) break;
      node_of[static_cast<size_t>(vertex)] = static_cast<int32_t>(node);
    }
  }
  CHECK(permutation);
  if (!permutation) return;

  int64_t num_bad_edges = 0;
  for (size_t vertex = 0; vertex < size; ++vertex) {
    for (int32_t edge = graph.offsets[vertex]; edge < graph.offsets[vertex + 1]; ++edge) {
      const int32_t other = node_of[static_cast<size_t>(graph.neighbours[static_cast<size_t>(edge)])];
      int32_t node = node_of[vertex];
      while (node != -1 && node < other) node = tree.parent[static_cast<size_t>(node)];
      // Where `other` is below, the same edge is looked at from its other end.
      num_bad_edges += other >= node_of[vertex] && node != other ? 1 : 0;
    }
  }
  CHECK(num_bad_edges == 0);
}

bool equal(const DissectionTree& one, const DissectionTree& two) {
  return one.old_from_new == two.old_from_new && one.first == two.first && one.parent == two.parent;
}

DissectionTree check_way(const Graph& graph, const double* positions, int32_t leaf_size, int32_t max_height) {
  const DissectionTree tree = nested_dissection(graph, positions, {leaf_size, 1});
  check_tree(graph, tree, max_height);
  for (const int num_threads : {1, 2, 4}) {
    CHECK(equal(tree, nested_dissection(graph, positions, {leaf_size, num_threads})));
  }
  return tree;
}

// Without positions and with each of those given.
void check(const std::string& name, const Graph& graph, const std::vector<Positions>& positions, int32_t leaf_size = 32,
           int32_t max_height = kAnyHeight) {
  current_case = name + ", multilevel";
  check_way(graph, nullptr, leaf_size, max_height);
  for (size_t index = 0; index < positions.size(); ++index) {
    current_case = name + ", positions " + std::to_string(index);
    check_way(graph, positions[index].data(), leaf_size, max_height);
  }
}

void test_trivial_graphs() {
  current_case = "no vertices";
  const Graph none = graph_of(0, {});
  const double somewhere = 0;
  for (const double* positions : {static_cast<const double*>(nullptr), &somewhere}) {
    const DissectionTree tree = nested_dissection(none, positions, {});
    CHECK(tree.old_from_new.empty() && tree.parent.empty() && tree.first == std::vector<int32_t>{0});
  }
  check("one vertex", graph_of(1, {}), {{1, 2, 3}}, 32, 1);
  check("one edge", graph_of(2, {{0, 1}}), {{1, 2, 3, 4, 5, 6}, {0, 0, 0, 0, 0, 0}}, 1, 2);
  check("leaf size 0", graph_of(5, {{0, 1}, {1, 2}, {3, 4}}), nonsense(5), 0);
  check("isolated vertices", graph_of(3000, {}), nonsense(3000), 32, 1);
}

void test_components() {
  current_case = "1000 singletons";
  const DissectionTree tree = nested_dissection(graph_of(1000, {}), nullptr, {32, 1});
  CHECK(tree.parent.size() == 32);
  Edges edges;
  int32_t num_verts = 0;
  for (int32_t component = 0; component < 1000; ++component) {
    const int32_t size = 1 + component % 7 + (component % 100 == 0 ? 300 : 0);
    for (int32_t step = 1; step < size; ++step) edges.emplace_back(num_verts + step - 1, num_verts + step);
    num_verts += size;
  }
  check("1000 components", graph_of(num_verts, edges), nonsense(num_verts), 32, 20);
}

void test_paths_and_stars() {
  for (const int32_t size : {1000, 1000000}) {
    Edges edges;
    Positions positions;
    for (int32_t vertex = 0; vertex < size; ++vertex) {
      if (vertex > 0) edges.emplace_back(vertex - 1, vertex);
      for (const double value : {vertex * 1.0, 0.0, vertex * 0.5}) positions.push_back(value);
    }
    check("path of " + std::to_string(size), graph_of(size, edges), {positions}, 32, mesh_height(size));
  }
  for (const int32_t size : {40, 63, 100, 500, 10001}) {
    for (const bool fan : {false, true}) {
      Edges edges;
      for (int32_t vertex = 1; vertex < size; ++vertex) {
        edges.emplace_back(0, vertex);
        if (fan && vertex > 1) edges.emplace_back(vertex - 1, vertex);
      }
      const Graph graph = graph_of(size, edges);
      check((fan ? "fan of " : "star of ") + std::to_string(size), graph, nonsense(size));
      if (size <= 10000) continue;
      current_case = "the hub is the root";
      const DissectionTree tree = nested_dissection(graph, nullptr, {});
      CHECK(tree.old_from_new.back() == 0 && tree.first[tree.parent.size() - 1] == size - 1);
    }
  }
}

void test_complete_graphs() {
  for (const int32_t size : {2, 33, 200}) {
    Edges edges;
    for (int32_t one = 0; one < size; ++one) {
      for (int32_t two = 0; two < one; ++two) edges.emplace_back(one, two);
    }
    check("complete graph of " + std::to_string(size), graph_of(size, edges), nonsense(size), 32, 1);
  }
}

void test_meshes() {
  Positions positions;
  for (const int32_t leaf_size : {1, 8, 32, 64}) {
    const std::string suffix = ", leaves of " + std::to_string(leaf_size);
    Graph graph = grid(60, 70, 1, false, positions);
    check("grid" + suffix, graph, {positions}, leaf_size, mesh_height(graph.num_verts));
    graph = grid(500, 4, 1, true, positions);
    check("strip" + suffix, graph, {positions}, leaf_size, mesh_height(graph.num_verts));
    graph = grid(16, 15, 14, true, positions);
    check("solid" + suffix, graph, {positions}, leaf_size, mesh_height(graph.num_verts));
    graph = torus(120, 50, positions);
    check("torus" + suffix, graph, {positions}, leaf_size, mesh_height(graph.num_verts));
  }
  const Graph graph = torus(100, 60, positions);
  check("torus out of place", graph, nonsense(graph.num_verts), 32, mesh_height(graph.num_verts));
  for (double& value : positions) value = value * 1e-300 + 1e-290;
  check("tiny torus", graph, {positions}, 32, mesh_height(graph.num_verts));
  positions[5] = std::numeric_limits<double>::quiet_NaN();
  check("not a number", graph, {positions}, 32, mesh_height(graph.num_verts));

  // The separators of a torus of 100 x 60 vertices need not be larger than two circles around its tube.
  current_case = "separators of a torus";
  torus(100, 60, positions);
  for (const double* way : {static_cast<const double*>(nullptr), static_cast<const double*>(positions.data())}) {
    const DissectionTree tree = nested_dissection(graph, way, {});
    const size_t root = tree.parent.size() - 1;
    CHECK(tree.first[root + 1] - tree.first[root] <= 140);
    for (size_t node = 0; node < root; ++node) CHECK(tree.first[node + 1] - tree.first[node] <= 140);
  }
}

void test_random_graphs() {
  Numbers numbers(1);
  for (int32_t trial = 0; trial < 300; ++trial) {
    const int32_t size = 1 + numbers.below(trial % 10 == 0 ? 4000 : 300);
    const int32_t num_edges = numbers.below(1 + size * (1 + trial % 5));
    const int32_t spread = trial % 2 == 0 ? size : 1 + numbers.below(20);  // whether neighbours have near numbers
    Edges edges;
    Positions positions;
    for (int32_t edge = 0; edge < num_edges; ++edge) {
      const int32_t one = numbers.below(size);
      edges.emplace_back(one, std::min(size - 1, one + numbers.below(spread)));
    }
    for (int32_t vertex = 0; vertex < size; ++vertex) {
      for (int32_t axis = 0; axis < 3; ++axis) positions.push_back(numbers.below(10) + vertex / (axis + 1));
    }
    const int32_t leaf_size = 1 + numbers.below(40);
    check("random graph " + std::to_string(trial), graph_of(size, edges), {positions, nonsense(size)[2]}, leaf_size);
  }
}

}  // namespace

int main() {
  test_trivial_graphs();
  test_components();
  test_paths_and_stars();
  test_complete_graphs();
  test_meshes();
  test_random_graphs();
  std::printf(num_failures == 0 ? "test_ordering: all passed\n" : "test_ordering: %d failures\n", num_failures);
  return num_failures == 0 ? 0 : 1;
}

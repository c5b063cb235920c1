#include "ordering.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "../threads/parallel.h"
#include "part_splitter.h"
#include "placed_vertices.h"

namespace largesteps {

namespace {

constexpr int32_t kMinVertsForThreads = 2000;
constexpr int32_t kMinBatchVerts = 1000;  // a unit of work for threads: a part, or several small parts
constexpr int32_t kNumBatches = 32;
constexpr double kDenseRowFactor = 10.0;  // vertices with more neighbours than this times sqrt(num_verts) are set apart
constexpr int32_t kMinDenseRow = 64;

// Puts vertices with very many neighbours at the end, as the root, because any separator would contain them. Returns the number
// of remaining vertices.
int32_t set_apart_dense_rows(Dissection& dissection) {
  const int32_t num_verts = dissection.graph.num_verts;
  const int32_t* const offsets = dissection.view.offsets;
  const double limit = std::max<double>(kMinDenseRow, kDenseRowFactor * std::sqrt(num_verts));
  std::vector<int32_t> dense;
  int32_t num_inner = 0;
  for (int32_t vertex = 0; vertex < num_verts; ++vertex) {
    if (offsets[vertex + 1] - offsets[vertex] > limit) {
      dense.push_back(vertex);
      dissection.side[static_cast<size_t>(vertex)] = kOutside;
    } else {
      dissection.ids[static_cast<size_t>(num_inner++)] = vertex;
    }
  }
  std::copy(dense.begin(), dense.end(), dissection.ids.begin() + num_inner);
  if (!dense.empty()) dissection.add_node(num_inner, 0);
  return num_inner;
}

// Sorts the vertices by component. Successive small components share a part of at most the leaf size.
std::vector<Part> find_components(Dissection& dissection, int32_t num_inner, int32_t leaf_size) {
  const GraphView& view = dissection.view;
  std::vector<int32_t>& ids = dissection.ids;
  std::vector<PlacedVertex>& points = dissection.points;
  std::vector<int32_t> component(static_cast<size_t>(dissection.graph.num_verts), -1);
  std::vector<int32_t> sizes;
  std::vector<int32_t> queue;
  for (int32_t index = 0; index < num_inner; ++index) {
    const int32_t seed = ids[static_cast<size_t>(index)];
    if (component[static_cast<size_t>(seed)] >= 0) continue;
    const auto label = static_cast<int32_t>(sizes.size());
    queue.assign(1, seed);
    component[static_cast<size_t>(seed)] = label;
    for (size_t next = 0; next < queue.size(); ++next) {
      const int32_t vertex = queue[next];
      for (int32_t edge = view.offsets[vertex]; edge < view.offsets[vertex + 1]; ++edge) {
        const auto neighbour = static_cast<size_t>(view.neighbours[edge]);
        if (dissection.side[neighbour] == kOutside || component[neighbour] >= 0) continue;
        component[neighbour] = label;
        queue.push_back(static_cast<int32_t>(neighbour));
      }
    }
    sizes.push_back(static_cast<int32_t>(queue.size()));
  }

  std::vector<int32_t> places(sizes.size());
  std::vector<Part> parts;
  int32_t begin = 0;
  for (size_t label = 0; label < sizes.size(); ++label) {
    places[label] = begin;
    if (!parts.empty() && parts.back().size() + sizes[label] <= leaf_size) {
      parts.back().end += sizes[label];
    } else {
      parts.push_back({begin, begin + sizes[label], !points.empty()});
    }
    begin += sizes[label];
  }
  const std::vector<int32_t> inner(ids.begin(), ids.begin() + num_inner);
  for (const int32_t vertex : inner) {
    ids[static_cast<size_t>(places[static_cast<size_t>(component[static_cast<size_t>(vertex)])]++)] = vertex;
  }
  if (!points.empty()) {
    std::vector<PlacedVertex> sorted(static_cast<size_t>(num_inner));
    for (size_t index = 0; index < sorted.size(); ++index) {
      sorted[index] = points[static_cast<size_t>(ids[index])];
    }
    points = std::move(sorted);
  }
  return parts;
}

// Cuts the largest parts, level by level, until there are enough to share between threads.
std::vector<Part> cut_largest(Dissection& dissection, std::vector<Part> parts, int32_t batch_verts, int num_threads) {
  std::vector<Part> done;
  while (!parts.empty()) {
    std::vector<Part> large;
    for (const Part& part : parts) (part.size() > batch_verts ? large : done).push_back(part);
    std::vector<std::vector<Part>> children(large.size());
    parallel_for(static_cast<int64_t>(large.size()), num_threads, [&](int64_t item) {
      const auto index = static_cast<size_t>(item);
      PartSplitter(dissection).split(large[index], children[index]);
    });
    parts.clear();
    for (const std::vector<Part>& pair : children) parts.insert(parts.end(), pair.begin(), pair.end());
  }
  return done;
}

// Cuts all parts down to the leaves. Successive small parts form one item of work.
void cut_all(Dissection& dissection, const std::vector<Part>& parts, int32_t batch_verts, int32_t leaf_size,
             int num_threads) {
  std::vector<size_t> batches = {0};  // where each begins among the parts
  int64_t verts = 0;
  for (size_t index = 0; index < parts.size(); ++index) {
    verts += parts[index].size();
    if (verts < batch_verts && index + 1 < parts.size()) continue;
    batches.push_back(index + 1);
    verts = 0;
  }
  parallel_for(static_cast<int64_t>(batches.size()) - 1, num_threads, [&](int64_t item) {
    const auto batch = static_cast<size_t>(item);
    PartSplitter splitter(dissection);
    std::vector<Part> stack(parts.begin() + static_cast<std::ptrdiff_t>(batches[batch]),
                            parts.begin() + static_cast<std::ptrdiff_t>(batches[batch + 1]));
    while (!stack.empty()) {
      const Part part = stack.back();
      stack.pop_back();
      if (part.size() <= leaf_size) {
        dissection.add_node(part.begin, part.begin);
      } else {
        splitter.split(part, stack);
      }
    }
  });
}

// Nodes stand in the order of elimination, each after the nodes of its subtree.
DissectionTree link(std::vector<int32_t> ids, const std::vector<int32_t>& subtree_begin) {
  DissectionTree tree;
  std::vector<size_t> roots;  // of what was linked so far
  for (size_t begin = 0; begin < subtree_begin.size(); ++begin) {
    if (subtree_begin[begin] < 0) continue;
    const size_t node = tree.parent.size();
    while (!roots.empty() && tree.first[roots.back()] >= subtree_begin[begin]) {
      tree.parent[roots.back()] = static_cast<int32_t>(node);
      roots.pop_back();
    }
    tree.first.push_back(static_cast<int32_t>(begin));
    tree.parent.push_back(-1);
    roots.push_back(node);
  }
  tree.first.push_back(static_cast<int32_t>(ids.size()));
  tree.old_from_new = std::move(ids);
  return tree;
}

}  // namespace

DissectionTree nested_dissection(const Graph& graph, const double* positions, const DissectionOptions& options) {
  if (graph.num_verts == 0) return {{}, {0}, {}};
  const int num_threads = graph.num_verts < kMinVertsForThreads ? 1 : options.num_threads;
  const int32_t leaf_size = std::max(options.leaf_size, 1);
  const auto size = static_cast<size_t>(graph.num_verts);
  Dissection dissection = {graph,
                           {graph.offsets.data(), graph.neighbours.data(), nullptr},
                           {},
                           std::vector<int32_t>(size),
                           std::vector<uint8_t>(size, kLeft),
                           std::vector<int32_t>(size),
                           std::vector<int32_t>(size, -1)};
  if (positions != nullptr) dissection.points = place_vertices(graph, positions, num_threads);

  const int32_t num_inner = set_apart_dense_rows(dissection);
  const int32_t batch_verts = std::max({kMinBatchVerts, num_inner / kNumBatches, leaf_size});
  std::vector<Part> parts = find_components(dissection, num_inner, leaf_size);
  parts = cut_largest(dissection, std::move(parts), batch_verts, num_threads);
  cut_all(dissection, parts, batch_verts, leaf_size, num_threads);
  return link(std::move(dissection.ids), dissection.subtree_begin);
}

}  // namespace largesteps

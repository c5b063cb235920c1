#include "ordering.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "bisection_geometric.h"
#include "bisection_multilevel.h"
#include "parallel.h"
#include "separator_refinement.h"

namespace largesteps {

namespace {

constexpr int32_t kMinVertsForThreads = 2000;
constexpr int32_t kMinBatchVerts = 1000;  // what the threads share: parts, or several of them if they are small
constexpr int32_t kNumBatches = 32;
constexpr double kDenseRowFactor = 10.0;  // vertices with more neighbours than this times the root of all are set apart
constexpr int32_t kMinDenseRow = 64;
constexpr int32_t kMinSideFraction = 8;  // a cut is of use if the smaller side has this part of the vertices
// Separators larger than these are not what cuts across an axis of a surface or a solid should give.
constexpr double kSurfaceDegree = 8.0;  // a graph whose vertices have so many neighbours on average is that of a solid
constexpr double kMaxSurfaceSeparator = 4.0;
constexpr double kMaxSolidSeparator = 3.0;

// A part that is still to be cut: the places in the order that its vertices fill in the end.
struct Part {
  int32_t begin = 0;
  int32_t end = 0;
  bool use_positions = false;

  int32_t size() const { return end - begin; }
};

// What one item of parallel work needs for itself.
struct Workspace {
  GeometricBisector geometric;
  MultilevelBisector multilevel;
  Cut cut;
  Cut other_cut;
  std::vector<uint8_t> saved_side;
  std::vector<int32_t> moved_ids;
  std::vector<PlacedVertex> moved_points;
  std::vector<Part> stack;
};

// The vertices of a part stand side by side in ids_. A cut puts those of the left side first, then those of the right
// side, then the separator, which is the order of elimination already. Parts know nothing of each other, so nothing
// depends on the order in which they are cut.
class Dissector {
 public:
  Dissector(const Graph& graph, const double* positions, const DissectionOptions& options);
  DissectionTree run();

 private:
  void set_apart_dense_rows();
  std::vector<Part> find_components();
  std::vector<Part> cut_largest(std::vector<Part> parts);
  void dissect(Part part, Workspace& work);
  bool split(Part part, Workspace& work, std::vector<Part>& children);
  bool cut(Part part, Workspace& work, bool& positions_help);
  void arrange(Part part, Workspace& work);
  void add_node(int32_t begin, int32_t subtree_begin) { subtree_begin_[static_cast<size_t>(begin)] = subtree_begin; }

  const Graph& graph_;
  const GraphView view_;
  const int32_t leaf_size_;
  const int num_threads_;
  std::vector<PlacedVertex> points_;  // of the vertices in ids_; empty without positions
  std::vector<int32_t> ids_;
  std::vector<uint8_t> side_;
  std::vector<int32_t> slot_;
  std::vector<int32_t> subtree_begin_;  // where a node begins: where the first of its descendants begins; else -1
  int32_t num_inner_;                   // vertices that are not set apart
};

Dissector::Dissector(const Graph& graph, const double* positions, const DissectionOptions& options)
    : graph_(graph),
      view_{graph.offsets.data(), graph.neighbours.data(), nullptr},
      leaf_size_(std::max(options.leaf_size, 1)),
      num_threads_(graph.num_verts < kMinVertsForThreads ? 1 : std::max(options.num_threads, 1)),
      ids_(static_cast<size_t>(graph.num_verts)),
      side_(static_cast<size_t>(graph.num_verts), kLeft),
      slot_(static_cast<size_t>(graph.num_verts)),
      subtree_begin_(static_cast<size_t>(graph.num_verts), -1),
      num_inner_(graph.num_verts) {
  if (positions != nullptr) points_ = place_vertices(graph, positions, num_threads_);
}

DissectionTree Dissector::run() {
  set_apart_dense_rows();
  std::vector<Part> parts = cut_largest(find_components());

  std::vector<size_t> batches = {0};  // where each begins among the parts
  const int32_t batch_size = std::max(kMinBatchVerts, num_inner_ / kNumBatches);
  int32_t verts = 0;
  for (size_t index = 0; index < parts.size(); ++index) {
    verts += parts[index].size();
    if (verts < batch_size && index + 1 < parts.size()) continue;
    batches.push_back(index + 1);
    verts = 0;
  }
  parallel_for(static_cast<int64_t>(batches.size()) - 1, num_threads_, [&](int64_t item) {
    Workspace work;
    const auto batch = static_cast<size_t>(item);
    for (size_t index = batches[batch]; index < batches[batch + 1]; ++index) dissect(parts[index], work);
  });

  DissectionTree tree;
  std::vector<int32_t> roots;  // of what stands in the order so far
  for (int32_t begin = 0; begin < graph_.num_verts; ++begin) {
    const int32_t subtree_begin = subtree_begin_[static_cast<size_t>(begin)];
    if (subtree_begin < 0) continue;
    const auto node = static_cast<int32_t>(tree.first.size());
    while (!roots.empty() && tree.first[static_cast<size_t>(roots.back())] >= subtree_begin) {
      tree.parent[static_cast<size_t>(roots.back())] = node;
      roots.pop_back();
    }
    tree.first.push_back(begin);
    tree.parent.push_back(-1);
    roots.push_back(node);
  }
  tree.first.push_back(graph_.num_verts);
  tree.old_from_new = std::move(ids_);
  return tree;
}

// Puts vertices with very many neighbours at the end, as the root: any separator would have to hold them.
void Dissector::set_apart_dense_rows() {
  const double limit = std::max<double>(kMinDenseRow, kDenseRowFactor * std::sqrt(graph_.num_verts));
  std::vector<int32_t> dense;
  num_inner_ = 0;
  for (int32_t vertex = 0; vertex < graph_.num_verts; ++vertex) {
    if (view_.offsets[vertex + 1] - view_.offsets[vertex] > limit) {
      dense.push_back(vertex);
      side_[static_cast<size_t>(vertex)] = kOutside;
    } else {
      ids_[static_cast<size_t>(num_inner_++)] = vertex;
    }
  }
  std::copy(dense.begin(), dense.end(), ids_.begin() + num_inner_);
  if (!dense.empty()) add_node(num_inner_, 0);
}

// Sorts the vertices by component. Small components that follow each other share a part of at most the leaf size.
std::vector<Part> Dissector::find_components() {
  std::vector<int32_t> component(static_cast<size_t>(graph_.num_verts), -1);
  std::vector<int32_t> sizes;
  std::vector<int32_t> queue;
  for (int32_t index = 0; index < num_inner_; ++index) {
    const int32_t seed = ids_[static_cast<size_t>(index)];
    if (component[static_cast<size_t>(seed)] >= 0) continue;
    const auto label = static_cast<int32_t>(sizes.size());
    queue.assign(1, seed);
    component[static_cast<size_t>(seed)] = label;
    for (size_t next = 0; next < queue.size(); ++next) {
      const int32_t vertex = queue[next];
      for (int32_t edge = view_.offsets[vertex]; edge < view_.offsets[vertex + 1]; ++edge) {
        const auto neighbour = static_cast<size_t>(view_.neighbours[edge]);
        if (side_[neighbour] == kOutside || component[neighbour] >= 0) continue;
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
    if (!parts.empty() && parts.back().size() + sizes[label] <= leaf_size_) {
      parts.back().end += sizes[label];
    } else {
      parts.push_back({begin, begin + sizes[label], !points_.empty()});
    }
    begin += sizes[label];
  }
  const std::vector<int32_t> inner(ids_.begin(), ids_.begin() + num_inner_);
  for (const int32_t vertex : inner) {
    ids_[static_cast<size_t>(places[static_cast<size_t>(component[static_cast<size_t>(vertex)])]++)] = vertex;
  }
  if (!points_.empty()) {
    std::vector<PlacedVertex> sorted(static_cast<size_t>(num_inner_));
    for (size_t index = 0; index < sorted.size(); ++index) {
      sorted[index] = points_[static_cast<size_t>(ids_[index])];
    }
    points_ = std::move(sorted);
  }
  return parts;
}

// Cuts the largest parts, level by level, until there are enough to share between threads.
std::vector<Part> Dissector::cut_largest(std::vector<Part> parts) {
  const int32_t small = std::max({kMinBatchVerts, num_inner_ / kNumBatches, leaf_size_});
  std::vector<Part> done;
  while (!parts.empty()) {
    std::vector<Part> large;
    for (const Part& part : parts) (part.size() > small ? large : done).push_back(part);
    std::vector<std::vector<Part>> children(large.size());
    parallel_for(static_cast<int64_t>(large.size()), num_threads_, [&](int64_t item) {
      Workspace work;
      const auto index = static_cast<size_t>(item);
      split(large[index], work, children[index]);
    });
    parts.clear();
    for (const std::vector<Part>& pair : children) parts.insert(parts.end(), pair.begin(), pair.end());
  }
  return done;
}

void Dissector::dissect(Part part, Workspace& work) {
  work.stack.assign(1, part);
  while (!work.stack.empty()) {
    part = work.stack.back();
    work.stack.pop_back();
    if (part.size() <= leaf_size_) {
      add_node(part.begin, part.begin);
    } else {
      split(part, work, work.stack);
    }
  }
}

// Cuts a part and appends its two children, or makes a leaf of it.
bool Dissector::split(Part part, Workspace& work, std::vector<Part>& children) {
  bool positions_help = part.use_positions;
  if (!cut(part, work, positions_help)) {
    add_node(part.begin, part.begin);
    return false;
  }
  arrange(part, work);
  const int32_t middle = part.begin + static_cast<int32_t>(work.cut.weights[0]);
  const int32_t separator = middle + static_cast<int32_t>(work.cut.weights[1]);
  if (separator < part.end) add_node(separator, part.begin);
  children.push_back({part.begin, middle, positions_help});
  children.push_back({middle, separator, positions_help});
  return true;
}

bool Dissector::cut(Part part, Workspace& work, bool& positions_help) {
  const int32_t* ids = ids_.data() + part.begin;
  const int32_t size = part.size();
  if (!part.use_positions) {
    work.multilevel.cut(view_, ids, size, side_.data(), slot_.data(), work.cut);
  } else {
    work.geometric.cut(view_, ids, points_.data() + part.begin, size, side_.data(), slot_.data(), work.cut);
    const double degree = static_cast<double>(graph_.neighbours.size()) / graph_.num_verts;
    const double limit = degree < kSurfaceDegree ? kMaxSurfaceSeparator * std::sqrt(size)
                                                 : kMaxSolidSeparator * std::cbrt(size) * std::cbrt(size);
    if (static_cast<double>(work.cut.weights[2]) > limit) {
      std::vector<uint8_t>& saved = work.saved_side;
      saved.resize(static_cast<size_t>(size));
      for (int32_t index = 0; index < size; ++index) saved[static_cast<size_t>(index)] = side_[static_cast<size_t>(ids[index])];
      work.multilevel.cut(view_, ids, size, side_.data(), slot_.data(), work.other_cut);
      if (work.other_cut.cost() < work.cut.cost()) {
        positions_help = 2 * work.other_cut.weights[2] > work.cut.weights[2];
        std::swap(work.cut, work.other_cut);
      } else {
        for (int32_t index = 0; index < size; ++index) side_[static_cast<size_t>(ids[index])] = saved[static_cast<size_t>(index)];
      }
    }
  }
  const int64_t smaller = std::min(work.cut.weights[0], work.cut.weights[1]);
  return smaller > 0 && smaller * kMinSideFraction >= size;
}

// Moves the vertices of a part that was cut to their places: left, right, separator.
void Dissector::arrange(Part part, Workspace& work) {
  const auto size = static_cast<size_t>(part.size());
  int32_t* const ids = ids_.data() + part.begin;
  std::array<size_t, 3> place = {0, static_cast<size_t>(work.cut.weights[0]),
                                 static_cast<size_t>(work.cut.weights[0] + work.cut.weights[1])};
  work.moved_ids.assign(ids, ids + size);
  PlacedVertex* points = nullptr;
  if (part.use_positions) {
    points = points_.data() + part.begin;
    work.moved_points.assign(points, points + size);
  }
  for (size_t index = 0; index < size; ++index) {
    const int32_t vertex = work.moved_ids[index];
    const size_t target = place[side_[static_cast<size_t>(vertex)]]++;
    ids[target] = vertex;
    if (points != nullptr) points[target] = work.moved_points[index];
  }
  for (const int32_t vertex : work.cut.separator) side_[static_cast<size_t>(vertex)] = kOutside;
}

}  // namespace

DissectionTree nested_dissection(const Graph& graph, const double* positions, const DissectionOptions& options) {
  if (graph.num_verts == 0) return {{}, {0}, {}};
  return Dissector(graph, positions, options).run();
}

}  // namespace largesteps

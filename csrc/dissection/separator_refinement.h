// Vertex separators: the construction from two sides, and the moves of Fiduccia and Mattheyses that shrink it.
//
// Source: Fiduccia, Mattheyses, "A Linear-Time Heuristic for Improving Network Partitions", DAC 1982, applied to
// vertices instead of edges as in Ashcraft, Liu, "A Partition Improvement Algorithm for Generalized Nested
// Dissection", 1994.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace largesteps {

// The side of a vertex of the current part. kOutside marks vertices of earlier separators: all other neighbours of a vertex of
// the part belong to the part, because those separators keep the parts apart.
enum Side : uint8_t { kLeft = 0, kRight = 1, kSeparator = 2, kOutside = 3 };

// A view of neighbour rows; without weights every vertex weighs 1.
struct GraphView {
  const int32_t* offsets = nullptr;
  const int32_t* neighbours = nullptr;
  const int32_t* vertex_weights = nullptr;

  int32_t weight(int32_t vertex) const { return vertex_weights == nullptr ? 1 : vertex_weights[vertex]; }
};

// A part cut in two: the weights of both sides and of the separator, whose vertices are listed.
struct Cut {
  std::array<int64_t, 3> weights = {0, 0, 0};
  std::vector<int32_t> separator;

  int64_t total() const { return weights[0] + weights[1] + weights[2]; }
  // The cost that compares cuts of one part: first a small separator, then sides of similar weight.
  double cost() const;
};

// Reuses its memory between calls, because most parts are small.
class SeparatorRefiner {
 public:
  // Makes a separator of the `candidates` that have a neighbour on the other side. Both ends of every edge between the sides
  // must be candidates. cut.weights holds the weights of the two sides before and after.
  void separate(const GraphView& graph, const std::vector<int32_t>& candidates, uint8_t* side, Cut& cut);

  // Moves vertices out of the separator; their neighbours on the other side then enter it. Keeps the best state found. `slot`
  // is scratch memory for every vertex and needs no initial value.
  void refine(const GraphView& graph, uint8_t* side, int32_t* slot, int num_passes, Cut& cut);

 private:
  struct Entry {  // a vertex of the separator that can be moved
    int32_t vertex;
    int32_t weight;
    std::array<int32_t, 2> gain;  // by how much the separator's weight falls when it moves to that side
  };
  struct Move {
    int32_t vertex;
    uint8_t to;
    size_t first_drawn;  // the vertices that it drew in are in drawn_, from here to the next move's
  };

  bool pass(const GraphView& graph, uint8_t* side, int32_t* slot, Cut& cut);
  Entry make_entry(const GraphView& graph, const uint8_t* side, int32_t vertex) const;
  bool choose(const Cut& cut, int64_t max_side, size_t& entry, uint8_t& to) const;
  void move(const GraphView& graph, uint8_t* side, int32_t* slot, size_t entry, uint8_t to, Cut& cut);
  void undo_last(const GraphView& graph, uint8_t* side, Cut& cut);
  void collect(uint8_t* side, Cut& cut);

  std::vector<Entry> entries_;
  std::vector<Move> moves_;
  std::vector<int32_t> drawn_;
  std::vector<int32_t> boundary_[2];
};

}  // namespace largesteps

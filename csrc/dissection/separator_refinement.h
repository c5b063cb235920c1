// Vertex separators: from two sides to a separator, and the moves of Fiduccia and Mattheyses that make it smaller.
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

// Where a vertex of the part in hand stands. kOutside marks vertices of separators that were found before: whatever
// else is adjacent to a vertex of the part belongs to the part, because those separators keep the parts apart.
enum Side : uint8_t { kLeft = 0, kRight = 1, kSeparator = 2, kOutside = 3 };

// Rows of neighbours that belong to somebody else; without weights every vertex weighs 1.
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
  // What cuts of one part are compared by: a small separator first, and sides of similar weight.
  double cost() const;
};

// Keeps its memory from one call to the next, since most parts are small.
class SeparatorRefiner {
 public:
  // Makes a separator of those `candidates` that have a neighbour on the other side. Every edge between the sides must
  // have both its ends among the candidates. cut.weights holds the weights of the two sides before and after.
  void separate(const GraphView& graph, const std::vector<int32_t>& candidates, uint8_t* side, Cut& cut);

  // Moves vertices out of the separator, which draws those of their neighbours into it that are on the other side, and
  // keeps the best state on the way. `slot` is scratch memory for every vertex and needs no initial value.
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
    size_t first_drawn;  // the vertices it drew in stand in drawn_ from here to the next move's
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

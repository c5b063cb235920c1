// Storage of a factor and the order of its visits, level by level, for a GPU.
//
// All supernodes of one height are independent. A sweep visits one height after the other and computes the products of all its
// supernodes at once, cut into tiles of rows. A supernode writes its contributions to slots, one for each of its rows; the
// receiver sums them in a fixed order, so that no two threads add to the same number.
//
// For a supernode with n columns and r rows the factor holds two matrices by rows, padded to multiples of kPadding numbers: for
// the forward sweep -P (r, n), for the backward sweep [G, -P'] (n, n + r). P is stored twice, so that each sweep reads
// contiguous rows.
//
// The factorisation eliminates fronts of a height together, a panel of columns at a time. A chunk is as many fronts as fit into
// the allowed memory. Fronts are cut into square tiles; those on and below the diagonal are stored.
#pragma once

#include <cstdint>
#include <vector>

#include "symbolic.h"

namespace largesteps {

constexpr int32_t kPadding = 4;      // numbers: 16 bytes of float32
constexpr int32_t kFrontTile = 64;   // rows and columns of a tile of a front
constexpr int32_t kFrontPanel = 32;  // columns of a front that are eliminated together
constexpr int32_t kFrontUnit = 16;   // numbers in which places of fronts are counted
static_assert(kFrontTile % kFrontPanel == 0, "a panel lies in one tile");

constexpr int64_t padded(int64_t size) { return (size + kPadding - 1) / kPadding * kPadding; }
constexpr int64_t front_units(int64_t size) { return (size + kFrontUnit - 1) / kFrontUnit; }
// Additional numbers for a front of m columns and rows: the columns of the current panel and of the next, and their inverses.
constexpr int64_t panel_size(int64_t m) { return 2 * kFrontPanel * (m + kFrontPanel); }

struct SweepTile {
  int32_t supernode, first_row, num_rows;
};

struct FrontTile {
  int32_t supernode, row, column;  // in tiles
};

struct Level {
  int32_t num_forward_tiles = 0, num_backward_tiles = 0;
};

struct FrontChunk {
  int32_t num_tiles = 0, num_panels = 0;       // panels of the front that has most of them
  int32_t front_units = 0, panel_units = 0;
};

struct LevelSchedule {
  int64_t factor_size = 0;
  std::vector<Level> levels;
  std::vector<SweepTile> forward_tiles, backward_tiles;  // level after level
  std::vector<int32_t> forward_start, backward_start;    // num_supernodes: where their matrices start, in units of kPadding
  // For each of a supernode's columns and rows, all supernodes' after each other, the slots whose sum it receives.
  std::vector<int32_t> gather_start, gather;
  std::vector<FrontChunk> chunks;
  std::vector<FrontTile> front_tiles;                    // chunk after chunk
  // num_supernodes: within the chunk's memory, and of the Schur complements, which outlive it; in units of kFrontUnit.
  std::vector<int32_t> front_start, panel_start, complement_start;
  int32_t complement_units = 0;
  std::vector<int32_t> order;                            // num_supernodes: by height
};

// Throws std::length_error if an index does not fit into 31 bits.
LevelSchedule make_level_schedule(const Symbolic& symbolic);

}  // namespace largesteps

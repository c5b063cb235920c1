// The positions of a supernode's numbers in the stored factor.
//
// For a supernode with n columns and r rows two matrices are stored: G, the inverse of its diagonal block (n, n), and -P, minus
// the rows below times that inverse (r, n). The columns are cut into panels of 4; in a panel the numbers of one row are
// contiguous. The factor holds G of all groups of supernodes in the order of the backward sweep, then -P of all groups in the
// order of the forward sweep, so each sweep reads memory from one end to the other. G is symmetric, so its panels begin with
// the rows of their own columns.
//
// The unit is a vector of kLanes numbers. In a batch it holds one number of each of kLanes supernodes, all padded to n columns
// and r rows; for a single supernode it holds kLanes rows of one column, with padded rows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "index_buffer.h"

namespace largesteps {

constexpr int32_t kPanel = 4;
static_assert(kLanes % kPanel == 0, "a block of rows begins with a panel");

constexpr int32_t num_blocks(int32_t rows) { return (rows + kLanes - 1) / kLanes; }
constexpr int64_t round_up(int64_t rows) { return (rows + kLanes - 1) / kLanes * kLanes; }
constexpr int32_t panel_width(int32_t n, int32_t first) { return n - first < kPanel ? n - first : kPanel; }

struct BatchLayout {
  int32_t n, r;

  BatchLayout(int32_t columns, int32_t rows) : n(columns), r(rows) {}

  // Vectors before the panel of G with the given first column: each has kPanel columns and n - (its first) rows.
  int64_t panel_g(int32_t first) const {
    const int64_t before = first / kPanel;
    return before * kPanel * int64_t{n} - kPanel * kPanel * (before * (before - 1) / 2);
  }
  int64_t size_g() const {
    const int32_t last = n - 1 - (n - 1) % kPanel;
    return n == 0 ? 0 : panel_g(last) + int64_t{n - last} * (n - last);
  }
  int64_t panel_p(int32_t first) const { return int64_t{r} * first; }
  int64_t size_p() const { return int64_t{r} * n; }
  // The number at (row, column) of G, row >= first_row(column), and of -P; the lane is to be added.
  static int32_t first_row(int32_t column) { return column - column % kPanel; }
  int64_t at_g(int32_t row, int32_t column) const {
    const int32_t first = column - column % kPanel;
    return kLanes * (panel_g(first) + int64_t{row - first} * panel_width(n, first) + column - first);
  }
  int64_t at_p(int32_t row, int32_t column) const {
    const int32_t first = column - column % kPanel;
    return kLanes * (panel_p(first) + int64_t{row} * panel_width(n, first) + column - first);
  }
};

struct SingleLayout {
  int32_t n, r;

  SingleLayout(int32_t columns, int32_t rows) : n(columns), r(rows) {}

  // Two panels after each other begin with the same block of rows, whose diagonal part is thus stored in full.
  int64_t panel_g(int32_t first) const {
    const int64_t before = first / kPanel, blocks = num_blocks(n);
    constexpr int64_t kPerBlock = kLanes / kPanel;
    const int64_t whole = before / kPerBlock, rest = before % kPerBlock;  // whole blocks of rows passed, panels since
    return kPanel * (kPerBlock * (whole * blocks - whole * (whole - 1) / 2) + rest * (blocks - whole));
  }
  int64_t size_g() const {
    const int32_t last = n - 1 - (n - 1) % kPanel;
    return n == 0 ? 0 : panel_g(last) + int64_t{n - last} * (num_blocks(n) - last / kLanes);
  }
  int64_t panel_p(int32_t first) const { return int64_t{num_blocks(r)} * first; }
  int64_t size_p() const { return int64_t{num_blocks(r)} * n; }
  // The number at (row, column) of G, row >= first_row(column), and of -P.
  static int32_t first_row(int32_t column) { return column - column % kLanes; }
  int64_t at_g(int32_t row, int32_t column) const {
    const int32_t first = column - column % kPanel, block = row / kLanes - first / kLanes;
    return kLanes * (panel_g(first) + int64_t{block} * panel_width(n, first) + column - first) + row % kLanes;
  }
  int64_t at_p(int32_t row, int32_t column) const {
    const int32_t first = column - column % kPanel;
    return kLanes * (panel_p(first) + int64_t{row / kLanes} * panel_width(n, first) + column - first) + row % kLanes;
  }
};

}  // namespace largesteps

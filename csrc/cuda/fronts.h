// The fronts that are factorised together, and their memory layout.
//
// The lower triangle of a front of m columns and rows is stored by columns. The current panel and the next one also have the
// panel's columns over all rows, (kFrontPanel, m), and minus the inverse of its pivots.
#pragma once

#include <cstdint>

#include "../structure/level_schedule.h"
#include "device.h"

namespace largesteps::device {

constexpr int kFrontThreads = 256;
constexpr int kInverseSize = kFrontPanel * kFrontPanel;
constexpr int kInverseStride = kFrontPanel + 1;  // in shared memory, so that neighbouring rows lie in different banks

// The breakdown of a supernode: its first bad column, or -1, and that pivot.
struct Broken {
  int32_t column;
  int32_t unused;
  double pivot;
};

template <typename Given>
struct Fronts {
  const int32_t *entry_columns, *crow, *old_from_new, *new_from_old, *first, *subtree, *row_start, *rows, *rows_in_parent;
  const int32_t *front_start, *panel_start, *complement_start, *forward_start, *backward_start;
  const Given* values;
  double *fronts, *panels, *complements;
  Broken* broken;        // per supernode
  int32_t* overflows;    // one number
  // From one matrix to the next.
  int64_t num_entries, fronts_stride, panels_stride, complements_stride, num_supernodes, factor_stride;
};

// One tile of one front of one matrix.
template <typename Given>
struct Tile {
  int64_t matrix;
  int32_t s, first, n, r, m;
  int32_t row_begin, row_end, column_begin, column_end;
  double *front, *panels;

  __device__ Tile(const Fronts<Given>& fronts, const int32_t* tile) {
    matrix = blockIdx.y;
    s = tile[0];
    first = fronts.first[s];
    n = fronts.first[s + 1] - first;
    r = fronts.row_start[s + 1] - fronts.row_start[s];
    m = n + r;
    row_begin = tile[1] * kFrontTile;
    row_end = row_begin + kFrontTile < m ? row_begin + kFrontTile : m;
    column_begin = tile[2] * kFrontTile;
    column_end = column_begin + kFrontTile < m ? column_begin + kFrontTile : m;
    front = fronts.fronts + matrix * fronts.fronts_stride + int64_t{kFrontUnit} * fronts.front_start[s];
    panels = fronts.panels + matrix * fronts.panels_stride + int64_t{kFrontUnit} * fronts.panel_start[s];
  }

  __device__ double& at(int32_t row, int32_t column) const { return front[int64_t{column} * m + row]; }
  __device__ double* panel(int32_t number) const { return panels + (number % 2) * int64_t{kFrontPanel} * m; }
  __device__ double* inverse(int32_t number) const { return panels + 2 * int64_t{kFrontPanel} * m + (number % 2) * kInverseSize; }
  __device__ int32_t num_panels() const { return (n + kFrontPanel - 1) / kFrontPanel; }
  __device__ int32_t panel_width(int32_t number) const {
    return n - number * kFrontPanel < kFrontPanel ? n - number * kFrontPanel : kFrontPanel;
  }

  // Whether this is the tile that holds the pivots of a panel.
  __device__ bool holds_pivots(int32_t number) const {
    return row_begin == column_begin && number * kFrontPanel / kFrontTile * kFrontTile == row_begin;
  }

  // Also stores a number of the tile, row >= column, in the panel if it belongs to its columns; rows above the pivots get the
  // mirrored number.
  __device__ void add_to_panel(int32_t number, int32_t row, int32_t column, double value) const {
    const int32_t begin = number * kFrontPanel, width = panel_width(number);
    if (column >= begin && column < begin + width) panel(number)[int64_t{column - begin} * m + row] = value;
    if (row >= begin && row < begin + width) panel(number)[int64_t{row - begin} * m + column] = value;
  }
};

// The matrix's own diagonal entry.
template <typename Given>
__device__ double diagonal_entry(const Fronts<Given>& fronts, int64_t matrix, int32_t vertex) {
  const int32_t begin = fronts.crow[vertex];
  const int32_t place = begin + lower_bound(fronts.entry_columns + begin, fronts.crow[vertex + 1] - begin, vertex);
  return static_cast<double>(fronts.values[matrix * fronts.num_entries + place]);
}

// Computes minus the inverse of a panel's pivots by the sweep operator, after all threads of the block have written them to the
// panel. Records the first pivot that is not positive beyond rounding. block: free shared memory, kFrontPanel rows of
// kInverseStride numbers.
template <typename Given>
__device__ void invert_pivots(const Fronts<Given>& fronts, const Tile<Given>& tile, int32_t number, double* block) {
  constexpr double kSmallestPivot = 1e-14;  // relative to the diagonal of the matrix: smaller pivots are rounding error
  __shared__ double column[kFrontPanel], smallest[kFrontPanel];
  const int32_t begin = number * kFrontPanel, width = tile.panel_width(number);
  const int thread = static_cast<int>(threadIdx.x);
  __syncthreads();  // the panel is written, and the memory free
  for (int k = thread; k < width * width; k += kFrontThreads) {
    const int i = k % width, j = k / width;
    block[j * kInverseStride + i] = tile.panel(number)[int64_t{j} * tile.m + begin + i];
  }
  if (thread < width) {
    const int32_t vertex = fronts.old_from_new[tile.first + begin + thread];
    smallest[thread] = kSmallestPivot * diagonal_entry(fronts, tile.matrix, vertex);
  }
  for (int pivot = 0; pivot < width; ++pivot) {
    __syncthreads();
    if (thread < width) column[thread] = block[pivot * kInverseStride + thread];
    __syncthreads();
    const double value = column[pivot];
    if (thread == 0 && !(value > smallest[pivot])) {
      Broken& broken = fronts.broken[tile.matrix * fronts.num_supernodes + tile.s];
      if (broken.column < 0) {
        broken.column = begin + pivot;
        broken.pivot = value;
      }
    }
    const double inverse = 1.0 / value;
    for (int k = thread; k < width * width; k += kFrontThreads) {
      const int i = k % width, j = k / width;
      double& entry = block[j * kInverseStride + i];
      if (i == pivot && j == pivot) {
        entry = -inverse;
      } else if (i == pivot || j == pivot) {
        entry = column[i == pivot ? j : i] * inverse;
      } else {
        entry -= column[i] * inverse * column[j];
      }
    }
  }
  __syncthreads();
  for (int k = thread; k < kInverseSize; k += kFrontThreads) {
    const int i = k % kFrontPanel, j = k / kFrontPanel;
    tile.inverse(number)[k] = i < width && j < width ? block[j * kInverseStride + i] : 0.0;
  }
}

}  // namespace largesteps::device

#include "factorize.h"

#include <algorithm>

#include "../structure/level_index.h"
#include "fronts.h"

namespace largesteps::device {
namespace {

// Memory limit for the fronts of several matrices at once; a single matrix may exceed it.
constexpr int64_t kMostBytes = int64_t{1} << 30;

// Assembles a front: the entries of the matrix, and the Schur complements of the supernodes below, one after the other.
template <typename Given>
__global__ void __launch_bounds__(kFrontThreads) assemble(Fronts<Given> fronts, const int32_t* tiles) {
  const Tile<Given> tile(fronts, tiles + 3 * int64_t{blockIdx.x});
  const int thread = static_cast<int>(threadIdx.x);
  for (int k = thread; k < kFrontTile * kFrontTile; k += kFrontThreads) {
    const int32_t row = tile.row_begin + k % kFrontTile, column = tile.column_begin + k / kFrontTile;
    if (row < tile.row_end && column < tile.column_end) tile.at(row, column) = 0;
  }
  __syncthreads();
  constexpr int kThreadsOfColumn = kFrontThreads / kFrontTile;
  const Given* const values = fronts.values + tile.matrix * fronts.num_entries;
  const int32_t* const rows = fronts.rows + fronts.row_start[tile.s];
  const int32_t column = tile.column_begin + thread / kThreadsOfColumn;
  if (column < tile.n && column < tile.column_end) {
    const int32_t vertex = fronts.old_from_new[tile.first + column], end = fronts.crow[vertex + 1];
    for (int32_t k = fronts.crow[vertex] + thread % kThreadsOfColumn; k < end; k += kThreadsOfColumn) {
      const int32_t new_row = fronts.new_from_old[fronts.entry_columns[k]];
      if (new_row < tile.first + column) continue;
      const bool is_column = new_row < tile.first + tile.n;
      const int32_t row = is_column ? new_row - tile.first : tile.n + lower_bound(rows, tile.r, new_row);
      if (row >= tile.row_begin && row < tile.row_end) tile.at(row, column) = static_cast<double>(values[k]);
    }
  }
  __syncthreads();
  const double* const complements = fronts.complements + tile.matrix * fronts.complements_stride;
  for (int32_t child = tile.s - 1; child >= fronts.subtree[tile.s]; child = fronts.subtree[child] - 1) {
    const int32_t r = fronts.row_start[child + 1] - fronts.row_start[child];
    const int32_t* const places = fronts.rows_in_parent + fronts.row_start[child];
    const double* const complement = complements + int64_t{kFrontUnit} * fronts.complement_start[child];
    const int32_t row_begin = lower_bound(places, r, tile.row_begin), row_end = lower_bound(places, r, tile.row_end);
    const int32_t begin = lower_bound(places, r, tile.column_begin), end = lower_bound(places, r, tile.column_end);
    const int32_t num_rows = row_end - row_begin;
    for (int32_t k = thread; k < num_rows * (end - begin); k += kFrontThreads) {
      const int32_t i = row_begin + k % num_rows, j = begin + k / num_rows;
      if (i >= j) tile.at(places[i], places[j]) += complement[int64_t{j} * r + i];
    }
    __syncthreads();
  }
  for (int k = thread; k < kFrontTile * kFrontTile; k += kFrontThreads) {
    const int32_t i = tile.row_begin + k % kFrontTile, j = tile.column_begin + k / kFrontTile;
    if (i < tile.row_end && j < tile.column_end && i >= j) tile.add_to_panel(0, i, j, tile.at(i, j));
  }
  __shared__ double block[kFrontPanel * kInverseStride];
  if (tile.holds_pivots(0)) invert_pivots(fronts, tile, 0, block);
}

// Stores a finished number of a front, row >= column: in the factor, with the opposite sign, or in the Schur complement.
template <typename Stored, typename Given>
__device__ void store(const Fronts<Given>& fronts, const Tile<Given>& tile, Stored* factor, int32_t row, int32_t column,
                      double value) {
  const int32_t n = tile.n, r = tile.r;
  if (column >= n) {
    double* const complements = fronts.complements + tile.matrix * fronts.complements_stride;
    complements[int64_t{kFrontUnit} * fronts.complement_start[tile.s] + int64_t{column - n} * r + row - n] = value;
    return;
  }
  const auto number = static_cast<Stored>(-value);
  if (!isfinite(number)) atomicOr(&fronts.overflows[tile.matrix], 1);
  Stored* const of_matrix = factor + tile.matrix * fronts.factor_stride;
  Stored* const backward = of_matrix + int64_t{kPadding} * fronts.backward_start[tile.s];
  const int64_t row_length = padded(int64_t{n} + r);
  backward[column * row_length + row] = number;
  if (row < n) {
    backward[row * row_length + column] = number;
  } else {
    of_matrix[int64_t{kPadding} * fronts.forward_start[tile.s] + (row - n) * padded(n) + column] = number;
  }
}

// Eliminates a panel: updates every number of the tile, and copies those that the next panel needs.
template <typename Stored, typename Given>
__global__ void __launch_bounds__(kFrontThreads)
    eliminate(Fronts<Given> fronts, const int32_t* tiles, int32_t number, Stored* factor) {
  const Tile<Given> tile(fronts, tiles + 3 * int64_t{blockIdx.x});
  const int32_t num_panels = tile.num_panels();
  if (number >= num_panels) return;
  constexpr int kStride = kFrontTile + 1, kGroups = kFrontThreads / kFrontTile;
  __shared__ double scaled[kFrontPanel * kStride], other[kFrontPanel * kStride], inverse[kFrontPanel * kInverseStride];
  const int32_t begin = number * kFrontPanel, width = tile.panel_width(number), m = tile.m;
  const int thread = static_cast<int>(threadIdx.x);
  const double* const panel = tile.panel(number);
  for (int k = thread; k < kInverseSize; k += kFrontThreads) {
    inverse[k / kFrontPanel * kInverseStride + k % kFrontPanel] = tile.inverse(number)[k];
  }
  for (int k = thread; k < kFrontPanel * kFrontTile; k += kFrontThreads) {
    const int32_t i = k % kFrontTile, depth = k / kFrontTile;
    const auto number_at = [&](int32_t row, int32_t row_end) {
      return depth < width && row < row_end ? panel[int64_t{depth} * m + row] : 0.0;
    };
    scaled[depth * kStride + i] = number_at(tile.row_begin + i, tile.row_end);
    other[depth * kStride + i] = number_at(tile.column_begin + i, tile.column_end);
  }
  __syncthreads();
  // The tile's rows times the inverse, which is stored with a minus sign.
  double products[kFrontPanel / kGroups];
  LARGESTEPS_UNROLL
  for (int k = 0; k < kFrontPanel / kGroups; ++k) {
    const int i = thread % kFrontTile, column = thread / kFrontTile + k * kGroups;
    double sum = 0;
    for (int depth = 0; depth < width; ++depth) {
      sum -= scaled[depth * kStride + i] * inverse[depth * kInverseStride + column];
    }
    products[k] = sum;
  }
  __syncthreads();
  LARGESTEPS_UNROLL
  for (int k = 0; k < kFrontPanel / kGroups; ++k) {
    scaled[(thread / kFrontTile + k * kGroups) * kStride + thread % kFrontTile] = products[k];
  }
  __syncthreads();
  constexpr int kSide = 16, kEach = kFrontTile / kSide;
  static_assert(kSide * kSide == kFrontThreads, "each thread has a square of numbers, kSide apart");
  const int x = thread % kSide, y = thread / kSide;
  double sums[kEach][kEach] = {};
  for (int depth = 0; depth < width; ++depth) {
    double left[kEach], right[kEach];
    LARGESTEPS_UNROLL
    for (int k = 0; k < kEach; ++k) {
      left[k] = scaled[depth * kStride + x + k * kSide];
      right[k] = other[depth * kStride + y + k * kSide];
    }
    LARGESTEPS_UNROLL
    for (int i = 0; i < kEach; ++i) {
      LARGESTEPS_UNROLL
      for (int j = 0; j < kEach; ++j) sums[i][j] += left[i] * right[j];
    }
  }
  const bool is_last = number + 1 == num_panels;
  LARGESTEPS_UNROLL
  for (int j = 0; j < kEach; ++j) {
    LARGESTEPS_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const int32_t row = tile.row_begin + x + i * kSide, column = tile.column_begin + y + j * kSide;
      if (row >= tile.row_end || column >= tile.column_end || row < column) continue;
      const bool row_is_pivot = row >= begin && row < begin + width, column_is_pivot = column >= begin && column < begin + width;
      double value = 0;
      if (row_is_pivot && column_is_pivot) {
        value = inverse[(column - begin) * kInverseStride + row - begin];
      } else if (column_is_pivot) {
        value = scaled[(column - begin) * kStride + x + i * kSide];
      } else if (row_is_pivot) {
        for (int depth = 0; depth < width; ++depth) {
          value -= other[depth * kStride + y + j * kSide] * inverse[depth * kInverseStride + row - begin];
        }
      } else {
        value = tile.at(row, column) - sums[i][j];
      }
      if (is_last) {
        store(fronts, tile, factor, row, column, value);
      } else {
        tile.at(row, column) = value;
        tile.add_to_panel(number + 1, row, column, value);
      }
    }
  }
  if (!is_last && tile.holds_pivots(number + 1)) invert_pivots(fronts, tile, number + 1, inverse);
}

// For each matrix the first supernode, in the order of heights, that has broken down.
template <typename Given>
__global__ void __launch_bounds__(kFrontThreads) report(Fronts<Given> fronts, const int32_t* order, double* breakdown) {
  __shared__ int32_t firsts[kFrontThreads];
  const int64_t matrix = blockIdx.x;
  const Broken* const broken = fronts.broken + matrix * fronts.num_supernodes;
  const int thread = static_cast<int>(threadIdx.x);
  const auto num_supernodes = static_cast<int32_t>(fronts.num_supernodes);
  int32_t mine = num_supernodes;
  for (int32_t k = thread; k < num_supernodes && mine == num_supernodes; k += kFrontThreads) {
    if (broken[order[k]].column >= 0) mine = k;
  }
  firsts[thread] = mine;
  __syncthreads();
  if (thread > 0) return;
  for (int k = 1; k < kFrontThreads; ++k) mine = firsts[k] < mine ? firsts[k] : mine;
  double* const out = breakdown + 3 * matrix;
  if (mine == num_supernodes) {
    out[0] = fronts.overflows[matrix] ? -2 : -1;
    out[1] = out[2] = 0;
    return;
  }
  const int32_t s = order[mine], vertex = fronts.old_from_new[fronts.first[s] + broken[s].column];
  out[0] = vertex;
  out[1] = broken[s].pivot;
  out[2] = diagonal_entry(fronts, matrix, vertex);
}

struct ChunkPlan {
  int64_t num_tiles, num_panels, front_units, panel_units;
};

ChunkPlan chunk_of(const int64_t* plan, int64_t chunk) {
  const int64_t* const numbers = plan + kFactorPlanSize + 4 * chunk;
  return {numbers[0], numbers[1], numbers[2], numbers[3]};
}

// How the workspace is divided, in bytes for one matrix; each part is a multiple of 16.
struct Division {
  int64_t fronts = 0, panels = 0, complements = 0, broken = 0, overflows = 16;

  explicit Division(const int64_t* plan) {
    constexpr int64_t kUnit = kFrontUnit * sizeof(double);
    for (int64_t chunk = 0; chunk < plan[kFactorNumChunks]; ++chunk) {
      fronts = std::max(fronts, kUnit * chunk_of(plan, chunk).front_units);
      panels = std::max(panels, kUnit * chunk_of(plan, chunk).panel_units);
    }
    complements = kUnit * plan[kFactorComplementUnits];
    broken = static_cast<int64_t>(sizeof(Broken)) * plan[kFactorNumSupernodes];
  }
  int64_t bytes() const { return fronts + panels + complements + broken + overflows; }
  int64_t matrices_at_once(int64_t num_matrices) const {
    constexpr int64_t kMostBlocks = 65535;  // along the second axis of a grid
    return std::min({num_matrices, std::max<int64_t>(1, kMostBytes / bytes()), kMostBlocks});
  }
};

}  // namespace

int64_t factorize_workspace_bytes(const int64_t* plan, int64_t num_matrices) {
  const Division division(plan);
  return division.bytes() * division.matrices_at_once(num_matrices);
}

template <typename Stored, typename Given>
void factorize(const int64_t* plan, const int32_t* index, const Given* values, int64_t num_matrices, Stored* factor,
               double* breakdown, void* workspace, Stream stream) {
  if (num_matrices == 0) return;
  const auto section = [&](FactorPlan place) { return index + plan[place]; };
  const int64_t factor_size = int64_t{kLanes} * plan[kFactorFactorBlocks], num_supernodes = plan[kFactorNumSupernodes];
  const Division division(plan);
  const int64_t at_once = division.matrices_at_once(num_matrices);
  char* const fronts_begin = static_cast<char*>(workspace);
  char* const panels_begin = fronts_begin + at_once * division.fronts;
  char* const complements_begin = panels_begin + at_once * division.panels;
  char* const broken_begin = complements_begin + at_once * division.complements;
  char* const overflows_begin = broken_begin + at_once * division.broken;
  // Numbers that are not written are padding.
  fill_bytes(factor, 0, static_cast<size_t>(num_matrices * factor_size) * sizeof(Stored), stream);
  for (int64_t first = 0; first < num_matrices; first += at_once) {
    const auto count = static_cast<unsigned>(std::min(at_once, num_matrices - first));
    const Fronts<Given> fronts = {section(kFactorEntryColumns),
                                  section(kFactorCrow),
                                  section(kFactorOldFromNew),
                                  section(kFactorNewFromOld),
                                  section(kFactorFirst),
                                  section(kFactorSubtree),
                                  section(kFactorRowStart),
                                  section(kFactorRows),
                                  section(kFactorRowsInParent),
                                  section(kFactorFrontStart),
                                  section(kFactorPanelStart),
                                  section(kFactorComplementStart),
                                  section(kFactorForwardStart),
                                  section(kFactorBackwardStart),
                                  values + first * plan[kFactorNumEntries],
                                  reinterpret_cast<double*>(fronts_begin),
                                  reinterpret_cast<double*>(panels_begin),
                                  reinterpret_cast<double*>(complements_begin),
                                  reinterpret_cast<Broken*>(broken_begin),
                                  reinterpret_cast<int32_t*>(overflows_begin),
                                  plan[kFactorNumEntries],
                                  division.fronts / static_cast<int64_t>(sizeof(double)),
                                  division.panels / static_cast<int64_t>(sizeof(double)),
                                  division.complements / static_cast<int64_t>(sizeof(double)),
                                  num_supernodes,
                                  factor_size};
    fill_bytes(broken_begin, 0xff, static_cast<size_t>(at_once * division.broken), stream);  // column -1
    fill_bytes(overflows_begin, 0, static_cast<size_t>(at_once * division.overflows), stream);
    const int32_t* tiles = section(kFactorFrontTiles);
    for (int64_t chunk = 0; chunk < plan[kFactorNumChunks]; ++chunk) {
      const ChunkPlan sizes = chunk_of(plan, chunk);
      const dim3 grid(static_cast<unsigned>(sizes.num_tiles), count);
      launch(assemble<Given>, grid, kFrontThreads, stream, fronts, tiles);
      for (int32_t panel = 0; panel < sizes.num_panels; ++panel) {
        launch(eliminate<Stored, Given>, grid, kFrontThreads, stream, fronts, tiles, panel, factor + first * factor_size);
      }
      tiles += 3 * sizes.num_tiles;
    }
    launch(report<Given>, dim3(count), kFrontThreads, stream, fronts, section(kFactorOrder), breakdown + 3 * first);
  }
}

template void factorize<float, float>(const int64_t*, const int32_t*, const float*, int64_t, float*, double*, void*, Stream);
template void factorize<double, float>(const int64_t*, const int32_t*, const float*, int64_t, double*, double*, void*, Stream);
template void factorize<double, double>(const int64_t*, const int32_t*, const double*, int64_t, double*, double*, void*, Stream);

}  // namespace largesteps::device

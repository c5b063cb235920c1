#include "solve.h"

#include <algorithm>

#include "../structure/level_index.h"
#include "device.h"

namespace largesteps::device {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kMostBlocks = 65535;  // along the second and third axis of a grid

// The numbers of the vector, for each column, that a block holds at once to multiply its rows with.
template <typename T>
constexpr int piece_size(int num_columns) {
  constexpr int kBytes = 32768, kMost = 1024;
  const int size = kBytes / (num_columns * static_cast<int>(sizeof(T)));
  return size < kMost ? size : kMost;
}

// Columns are those of all members that share a factor. A column's numbers begin at its offset and are row_size apart.
template <typename T, typename Given>
struct Sweep {
  const int32_t *old_from_new, *first, *row_start, *rows, *gather_start, *gather;
  const T* factor;
  const Given* rhs;
  Given* x;
  T* slots;     // num_slots rows of num_columns numbers
  T* solution;  // num_verts rows, in the order of elimination
  int64_t num_columns, row_size, member_size;
  int64_t factor_stride, rhs_stride, workspace_stride;  // from one member with its own factor to the next
};

// The tiles and matrices of one sweep direction.
struct Level {
  const int32_t* tiles;  // of three numbers
  const int32_t* start;  // of each supernode's matrix
};

// The sum of the contributions of supernodes below to one row.
template <typename T>
__device__ __forceinline__ T gathered(const int32_t* gather_start, const int32_t* gather, const T* slots, int64_t num_columns,
                                      int64_t front_row, int64_t column) {
  T sum = 0;
  const int32_t end = gather_start[front_row + 1];
  for (int32_t k = gather_start[front_row]; k < end; ++k) sum += slots[gather[k] * num_columns + column];
  return sum;
}

// A tile of rows of one supernode's matrix times a vector. The number of lanes that share a row depends on its length, and
// neighbouring threads read neighbouring numbers; each group of lanes has kRows rows at once.
//
// Forward, the vector is b, the numbers of the supernode's columns; -P b plus the contributions passed on from below goes to
// its slots. Backward, the vector is b and the solution of the rows above; [G, -P'] times it is the solution.
template <bool kForward, typename T, typename Given, int kColumns, int kRows>
__global__ void __launch_bounds__(kThreads)
    sweep_level(Sweep<T, Given> sweep, Level level, int64_t first_column, int64_t first_member) {
  constexpr int kPiece = piece_size<T>(kColumns), kWidth = Vector<T>::kSize;
  __shared__ Vector<T> piece[kColumns * kPiece / kWidth];
  __shared__ int64_t offsets[kColumns];
  T* const vector = piece[0].numbers;

  const int64_t member = first_member + blockIdx.z, column0 = first_column + int64_t{blockIdx.y} * kColumns;
  const T* const factor = sweep.factor + member * sweep.factor_stride;
  const Given* const rhs = sweep.rhs + member * sweep.rhs_stride;
  Given* const x = sweep.x + member * sweep.rhs_stride;
  T* const slots = sweep.slots + member * sweep.workspace_stride;
  T* const solution = sweep.solution + member * sweep.workspace_stride;
  const int num_columns = static_cast<int>(sweep.num_columns - column0 < kColumns ? sweep.num_columns - column0 : kColumns);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < num_columns) {
    const int64_t column = column0 + thread;
    offsets[thread] = column / sweep.row_size * sweep.member_size + column % sweep.row_size;
  }

  const int32_t* const tile = level.tiles + 3 * int64_t{blockIdx.x};
  const int32_t s = tile[0], first_row = tile[1], num_rows = tile[2];
  const int32_t first = sweep.first[s], n = sweep.first[s + 1] - first;
  const int32_t row_start = sweep.row_start[s], r = sweep.row_start[s + 1] - row_start;
  const int64_t front = int64_t{first} + row_start;
  const int32_t length = kForward ? n : n + r, row_length = static_cast<int32_t>(padded(length));
  const T* const matrix = factor + int64_t{kPadding} * level.start[s] + int64_t{first_row} * row_length;
  int lanes = 32;
  while (lanes > 4 && 2 * lanes * kWidth > row_length) lanes /= 2;
  const int groups = kThreads / lanes, group = thread / lanes, lane = thread % lanes;

  for (int32_t row0 = 0; row0 < num_rows; row0 += groups * kRows) {
    T sums[kRows][kColumns];
    LARGESTEPS_UNROLL
    for (int k = 0; k < kRows; ++k) {
      const int32_t row = row0 + k * groups + group;
      LARGESTEPS_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        const bool is_mine = kForward && c % lanes == lane && c < num_columns && row < num_rows;
        sums[k][c] = is_mine ? gathered(sweep.gather_start, sweep.gather, slots, sweep.num_columns, front + n + first_row + row,
                                        column0 + c)
                             : T(0);
      }
    }
    for (int32_t begin = 0; begin < row_length; begin += kPiece) {
      const int32_t size = row_length - begin < kPiece ? row_length - begin : kPiece;
      if (row0 == 0 || row_length > kPiece) {  // else it is already loaded
        __syncthreads();
        for (int k = thread; k < size * kColumns; k += kThreads) {
          const int c = k % kColumns;
          const int32_t i = begin + k / kColumns;
          T number = 0;
          if (c < num_columns && i < n) {
            number = static_cast<T>(rhs[sweep.old_from_new[first + i] * sweep.row_size + offsets[c]]) +
                     gathered(sweep.gather_start, sweep.gather, slots, sweep.num_columns, front + i, column0 + c);
          } else if (c < num_columns && i < length) {
            number = solution[sweep.rows[row_start + i - n] * sweep.num_columns + column0 + c];
          }
          vector[c * kPiece + i - begin] = number;
        }
        __syncthreads();
      }
      for (int32_t j = lane * kWidth; j < size; j += lanes * kWidth) {
        Vector<T> numbers[kRows];
        LARGESTEPS_UNROLL
        for (int k = 0; k < kRows; ++k) {
          const int32_t row = row0 + k * groups + group;
          numbers[k] = row < num_rows ? load_vector(matrix + int64_t{row} * row_length + begin + j) : Vector<T>{};
        }
        LARGESTEPS_UNROLL
        for (int c = 0; c < kColumns; ++c) {
          const Vector<T> of_column = piece[(c * kPiece + j) / kWidth];
          LARGESTEPS_UNROLL
          for (int k = 0; k < kRows; ++k) {
            LARGESTEPS_UNROLL
            for (int w = 0; w < kWidth; ++w) sums[k][c] += numbers[k].numbers[w] * of_column.numbers[w];
          }
        }
      }
    }
    LARGESTEPS_UNROLL
    for (int k = 0; k < kRows; ++k) {
      const int32_t row = row0 + k * groups + group;
      LARGESTEPS_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        T sum = sums[k][c];
        for (int distance = lanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        if (c % lanes != lane || c >= num_columns || row >= num_rows) continue;
        if (kForward) {
          slots[(int64_t{row_start} + first_row + row) * sweep.num_columns + column0 + c] = sum;
        } else {
          const int32_t column = first + first_row + row;
          solution[column * sweep.num_columns + column0 + c] = sum;
          x[sweep.old_from_new[column] * sweep.row_size + offsets[c]] = static_cast<Given>(sum);
        }
      }
    }
  }
}

template <bool kForward, typename T, typename Given, int kColumns, int kRows>
void launch_level(const Sweep<T, Given>& sweep, const Level& level, int64_t num_tiles, int64_t num_members, Stream stream) {
  if (num_tiles == 0) return;
  const int64_t num_pieces = (sweep.num_columns + kColumns - 1) / kColumns;
  for (int64_t member = 0; member < num_members; member += kMostBlocks) {
    for (int64_t piece = 0; piece < num_pieces; piece += kMostBlocks) {
      const dim3 grid(static_cast<unsigned>(num_tiles), static_cast<unsigned>(std::min<int64_t>(num_pieces - piece, kMostBlocks)),
                      static_cast<unsigned>(std::min<int64_t>(num_members - member, kMostBlocks)));
      launch(sweep_level<kForward, T, Given, kColumns, kRows>, grid, kThreads, stream, sweep, level, piece * kColumns, member);
    }
  }
}

// Up to four columns are processed one by one, for the lowest latency; more in groups of eight, which share the reads of the
// factor.
template <bool kForward, typename T, typename Given>
void sweep_once(const Sweep<T, Given>& sweep, const Level& level, int64_t num_tiles, int64_t num_members, Stream stream) {
  switch (sweep.num_columns) {
    case 1: return launch_level<kForward, T, Given, 1, 1>(sweep, level, num_tiles, num_members, stream);
    case 2: return launch_level<kForward, T, Given, 2, 1>(sweep, level, num_tiles, num_members, stream);
    case 3: return launch_level<kForward, T, Given, 3, 1>(sweep, level, num_tiles, num_members, stream);
    case 4: return launch_level<kForward, T, Given, 4, 1>(sweep, level, num_tiles, num_members, stream);
    // With more rows of float64 the sums would not fit into registers.
    default: return launch_level<kForward, T, Given, 8, sizeof(T) == 4 ? 4 : 2>(sweep, level, num_tiles, num_members, stream);
  }
}

}  // namespace

int64_t workspace_size(const int64_t* plan, const Batch& batch, int64_t num_columns) {
  return batch.size * num_columns * (plan[kSolveNumSlots] + plan[kSolveNumVerts]);
}

template <typename T, typename Given>
void solve(const int64_t* plan, const int32_t* index, const T* factor, const Given* rhs, Given* x, int64_t num_columns,
           const Batch& batch, T* workspace, Stream stream) {
  if (batch.size == 0 || num_columns == 0) return;
  const auto section = [&](SolvePlan place) { return index + plan[place]; };
  const int64_t num_verts = plan[kSolveNumVerts], num_slots = plan[kSolveNumSlots];
  const bool is_shared = batch.factor_stride == 0;
  const int64_t all_columns = is_shared ? batch.size * num_columns : num_columns;
  const Sweep<T, Given> sweep = {
      section(kSolveOldFromNew), section(kSolveFirst),       section(kSolveRowStart),
      section(kSolveRows),       section(kSolveGatherStart), section(kSolveGather),
      factor,                    rhs,                        x,
      workspace,                 workspace + num_slots * all_columns,
      all_columns,               num_columns,                num_verts * num_columns,
      batch.factor_stride,       num_verts * num_columns,    (num_slots + num_verts) * all_columns};
  const int64_t num_members = is_shared ? 1 : batch.size, num_levels = plan[kSolveNumLevels];
  const int64_t* const tiles = plan + kSolvePlanSize;
  int64_t first_tile = 0;
  for (int64_t level = 0; level < num_levels; ++level) {
    const Level forward = {section(kSolveForwardTiles) + 3 * first_tile, section(kSolveForwardStart)};
    sweep_once<true>(sweep, forward, tiles[2 * level], num_members, stream);
    first_tile += tiles[2 * level];
  }
  first_tile = 0;
  for (int64_t level = 0; level < num_levels; ++level) first_tile += tiles[2 * level + 1];
  for (int64_t level = num_levels; level-- > 0;) {
    first_tile -= tiles[2 * level + 1];
    const Level backward = {section(kSolveBackwardTiles) + 3 * first_tile, section(kSolveBackwardStart)};
    sweep_once<false>(sweep, backward, tiles[2 * level + 1], num_members, stream);
  }
}

template void solve<float, float>(const int64_t*, const int32_t*, const float*, const float*, float*, int64_t, const Batch&,
                                  float*, Stream);
template void solve<double, float>(const int64_t*, const int32_t*, const double*, const float*, float*, int64_t, const Batch&,
                                   double*, Stream);
template void solve<double, double>(const int64_t*, const int32_t*, const double*, const double*, double*, int64_t, const Batch&,
                                    double*, Stream);

}  // namespace largesteps::device

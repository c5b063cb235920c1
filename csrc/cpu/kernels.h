// The inner loops, compiled for several instruction sets and chosen when the program runs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace largesteps {

// Rows of the workspace hold the columns of the right-hand side that are solved together. For few columns (1 to 4) vectors lie
// along the supernodes of a batch, or along the rows of a single one; for many (8, 16 or 32) along the columns.
constexpr int kColumnCounts[] = {1, 2, 3, 4, 8, 16, 32};
constexpr int kNumColumnCounts = 7;
// Numbers from one row of the workspace to the next.
constexpr int workspace_stride(int num_columns) { return num_columns == 3 ? 4 : num_columns; }

// The sweep over one group (see schedule.h and layout.h) with n columns and r rows.
//
// Forward, the group's rows receive -P b for the rows b of its columns; backward, its columns x = G b - P' x_rows.
// indices: the rows of the workspace that belong to its columns and to its rows. scratch holds scratch_size numbers.
template <typename T>
using GroupKernel = void (*)(const T* g, const T* p, int32_t n, int32_t r, const int32_t* indices, T* workspace,
                             T* scratch);

template <typename T>
struct GroupKernels {
  GroupKernel<T> forward, backward;
};

template <typename T>
struct SweepKernels {
  GroupKernels<T> batch, single;
};

constexpr int64_t scratch_size(int64_t n, int64_t r, int num_columns) {
  return 8 * (2 * n + r + 8) * num_columns;  // what a batch needs; single supernodes need less
}

// Columns of a front that are eliminated together, at most.
constexpr int32_t kMaxDepth = 24;

// The inner loops of the factorisation, on a front stored by columns of length ld, a multiple of 8. The columns of depth
// pivots, from begin on, are processed as tiles of 8 rows, column by column in each.
struct DenseKernels {
  // Replaces the first depth rows and columns of a symmetric block, stored in full in rows of kMaxDepth, by minus their
  // inverse. Returns the first pivot that is not larger than smallest, or -1.
  int32_t (*invert)(double* block, int32_t depth, const double* smallest);
  // The pivots' columns over all rows of the front, zero in the rows of the pivots themselves; and back.
  void (*gather)(double* tiles, double* front, int64_t ld, int64_t begin, int32_t depth);
  void (*scatter)(double* front, const double* tiles, int64_t ld, int64_t begin, int32_t depth);
  // scaled = tiles times minus a symmetric matrix (depth, depth) in rows of kMaxDepth, zero behind its columns.
  void (*scale)(double* scaled, const double* tiles, const double* matrix, int64_t num_tiles, int32_t depth);
  // front(i, j) -= sum over k < depth of scaled(i, k) tiles(j, k), for j in [begin, end), begin a multiple of 4, and i >= j.
  void (*update)(double* front, int64_t ld, int64_t begin, int64_t end, const double* scaled, const double* tiles,
                 int32_t depth);
};

struct Kernels {
  const char* instruction_set;
  SweepKernels<float> single_precision[kNumColumnCounts];
  SweepKernels<double> double_precision[kNumColumnCounts];
  DenseKernels dense;

  template <typename T>
  const SweepKernels<T>& sweep(int column_count) const;
};

template <>
inline const SweepKernels<float>& Kernels::sweep<float>(int column_count) const {
  return single_precision[column_count];
}
template <>
inline const SweepKernels<double>& Kernels::sweep<double>(int column_count) const {
  return double_precision[column_count];
}

// The best kernels that this processor can run.
const Kernels& kernels();

}  // namespace largesteps

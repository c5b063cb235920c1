// The solve: a forward sweep up the tree, a backward sweep down, and the permutations at both ends.
#pragma once

#include <cstdint>

#include "../structure/index_buffer.h"

namespace largesteps {

enum class SolveStatus { kSolved, kRhsNotFinite, kOverflow };

// The number of successive right-hand sides, and the distance between their factors: 0 if all have the same matrix, else
// index.factor_size().
struct Batch {
  int64_t size = 1;
  int64_t factor_stride = 0;
};

// x = M^-1 rhs for rhs and x (batch.size, num_verts, num_columns), row by row, in the order of the matrix; they may be the
// same array. The arithmetic uses the dtype of the stored factor. Results are bit-identical for every number of threads. Unless
// kSolved is returned, x is undefined.
template <typename T, typename Given>
SolveStatus solve(const IndexView& index, const T* factor, const Given* rhs, Given* x, int64_t num_columns, int num_threads,
                  const Batch& batch = {});

}  // namespace largesteps

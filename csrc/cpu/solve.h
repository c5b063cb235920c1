// The solve: a forward sweep up the tree, a backward sweep down, and the permutations at both ends.
#pragma once

#include <cstdint>

#include "../core/index_buffer.h"

namespace largesteps {

// x = M^-1 rhs for rhs and x (num_verts, num_columns), row by row, in the order of the matrix; they may be the same array.
// The same bits for every number of threads. False where a number of rhs is NaN or infinite; x holds nothing useful then.
template <typename T>
bool solve(const IndexView& index, const T* factor, const T* rhs, T* x, int64_t num_columns, int num_threads);

}  // namespace largesteps

// The solve on a GPU: the levels of the tree one after the other, up and down again, one launch each.
#pragma once

#include <cstdint>

#include "stream.h"

namespace largesteps::device {

// The number of successive right-hand sides, and the distance between their factors: 0 if all have the same matrix.
struct Batch {
  int64_t size = 1;
  int64_t factor_stride = 0;
};

// Numbers of the workspace of a solve.
int64_t workspace_size(const int64_t* plan, const Batch& batch, int64_t num_columns);

// x = M^-1 rhs for rhs and x (batch.size, num_verts, num_columns), row by row, in the order of the matrix. plan: see SolvePlan,
// on the host. index, factor and workspace: on the device; the factor and each member's at a multiple of 16 bytes. The
// arithmetic uses the dtype of the factor. Results are bit-identical at every call, and a column does not depend on the others.
// Only launches kernels, and waits for none of them.
template <typename T, typename Given>
void solve(const int64_t* plan, const int32_t* index, const T* factor, const Given* rhs, Given* x, int64_t num_columns,
           const Batch& batch, T* workspace, Stream stream);

}  // namespace largesteps::device

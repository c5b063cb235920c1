// The solve on a GPU: the tree's levels one after the other, upwards and down again, a launch for each.
#pragma once

#include <cstdint>

#include "stream.h"

namespace largesteps::device {

// How many right-hand sides stand one after the other, and how far the factor of each is from that of the one before: 0 if all
// have the same matrix.
struct Batch {
  int64_t size = 1;
  int64_t factor_stride = 0;
};

// Numbers of the workspace of a solve.
int64_t workspace_size(const int64_t* plan, const Batch& batch, int64_t num_columns);

// x = M^-1 rhs for rhs and x (batch.size, num_verts, num_columns), row by row, in the order of the matrix. plan: see SolvePlan,
// on the host. index, factor and workspace: on the device; the factor and each member's at a multiple of 16 bytes. The
// arithmetic is that of the factor. The same bits at every call, and for a column whatever stands beside it. Only launches
// kernels, and waits for none of them.
template <typename T, typename Given>
void solve(const int64_t* plan, const int32_t* index, const T* factor, const Given* rhs, Given* x, int64_t num_columns,
           const Batch& batch, T* workspace, Stream stream);

}  // namespace largesteps::device

// The numeric factorisation on a GPU: the fronts of a level together, a panel of columns at a time.
//
// Source: as for the CPU (../cpu/factorize.h), with the same sweep operator: an update replaces the front by minus the inverse
// of the pivots, the rows below times that inverse, and the Schur complement.
#pragma once

#include <cstdint>

#include "stream.h"

namespace largesteps::device {

// Bytes of workspace for a factorisation of this many matrices, which processes a few at a time.
int64_t factorize_workspace_bytes(const int64_t* plan, int64_t num_matrices);

// values: (num_matrices, entries), finite. factor: (num_matrices, size). breakdown: (num_matrices, 3), for each the vertex
// whose pivot is not positive beyond rounding, its pivot and its diagonal entry; of several such vertices the one of the lowest
// level. The vertex is -1 if there is none, -2 if there is none but a number is not finite in the stored dtype. All arithmetic
// is in double precision. plan: see FactorPlan, on the host; all else on the device, workspace at a multiple of 16 bytes. Only
// launches kernels.
template <typename Stored, typename Given>
void factorize(const int64_t* plan, const int32_t* index, const Given* values, int64_t num_matrices, Stored* factor,
               double* breakdown, void* workspace, Stream stream);

}  // namespace largesteps::device

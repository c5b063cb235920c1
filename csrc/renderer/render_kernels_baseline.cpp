// The renderer's kernels for every processor.
#include "no_contraction.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels_by_set.h"

#if LARGESTEPS_X86
#include <immintrin.h>
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed between inlined functions only
#endif

#define LARGESTEPS_VECTOR_SET 0

namespace largesteps::renderer {
namespace baseline {
namespace {
#include "all_kernels.inl"
}  // namespace
}  // namespace baseline

AllKernels baseline_kernels() { return baseline::make("baseline"); }

}  // namespace largesteps::renderer

// The renderer's kernels for x86-64 processors with AVX2.
#include "no_contraction.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels_by_set.h"

#if LARGESTEPS_X86

#include <immintrin.h>

#define LARGESTEPS_VECTOR_SET 1

#include "../cpu/begin_avx2.inl"
namespace largesteps::renderer {
namespace avx2 {
namespace {
#include "all_kernels.inl"
}  // namespace
}  // namespace avx2

AllKernels avx2_kernels() { return avx2::make("AVX2"); }

}  // namespace largesteps::renderer
#include "../cpu/end_instruction_set.inl"

#else

largesteps::renderer::AllKernels largesteps::renderer::avx2_kernels() { return baseline_kernels(); }

#endif

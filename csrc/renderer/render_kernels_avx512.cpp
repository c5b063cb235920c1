// The renderer's kernels for x86-64 processors with AVX-512.
#include "no_contraction.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels_by_set.h"

#if LARGESTEPS_X86

#include <immintrin.h>

#define LARGESTEPS_VECTOR_SET 2

#include "../cpu/begin_avx512.inl"
namespace largesteps::renderer {
namespace avx512 {
namespace {
#include "all_kernels.inl"
}  // namespace
}  // namespace avx512

AllKernels avx512_kernels() { return avx512::make("AVX-512"); }

}  // namespace largesteps::renderer
#include "../cpu/end_instruction_set.inl"

#else

largesteps::renderer::AllKernels largesteps::renderer::avx512_kernels() { return baseline_kernels(); }

#endif

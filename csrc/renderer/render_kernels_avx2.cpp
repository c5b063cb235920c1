// The renderer's kernels for x86-64 processors with AVX2.
#include "no_contraction.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels_by_set.h"

#if LARGESTEPS_X86

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed between inlined functions only
#endif

#define LARGESTEPS_VECTOR_SET 1

namespace largesteps::renderer {
namespace avx2 {
namespace {
#include "all_kernels.inl"
}  // namespace
}  // namespace avx2

AllKernels avx2_kernels() { return avx2::make("AVX2"); }

}  // namespace largesteps::renderer

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

// The renderer's kernels for x86-64 processors with AVX-512.
#include "no_contraction.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels_by_set.h"

#if LARGESTEPS_X86

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed between inlined functions only
#endif

#define LARGESTEPS_VECTOR_SET 2

namespace largesteps::renderer {
namespace avx512 {
namespace {
#include "all_kernels.inl"
}  // namespace
}  // namespace avx512

AllKernels avx512_kernels() { return avx512::make("AVX-512"); }

}  // namespace largesteps::renderer

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

// The kernels for x86-64 processors with AVX-512.
#include "kernels.h"
#include "kernels_by_set.h"
#include "../structure/layout.h"

#if LARGESTEPS_X86

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed between inlined functions only
#endif

namespace largesteps {
namespace avx512 {
namespace {
constexpr int kWideVectors = 4;  // of eight numbers: see wide_sweep.inl
#include "all_kernels.inl"
}  // namespace
}  // namespace avx512

Kernels avx512_kernels() { return avx512::make("AVX-512"); }

}  // namespace largesteps

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

// The kernels for x86-64 processors with AVX2 and fused multiply-add.
#include "kernels.h"
#include "kernels_by_set.h"
#include "../structure/layout.h"

#if LARGESTEPS_X86

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed between inlined functions only
#endif

namespace largesteps {
namespace avx2 {
namespace {
constexpr int kWideVectors = 2;  // of eight numbers: see wide_sweep.inl
#include "all_kernels.inl"
}  // namespace
}  // namespace avx2

Kernels avx2_kernels() { return avx2::make("AVX2"); }

}  // namespace largesteps

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

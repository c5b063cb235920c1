// The kernels for x86-64 processors with AVX2 and fused multiply-add.
#include "kernels.h"
#include "kernels_by_set.h"
#include "../structure/layout.h"

#if LARGESTEPS_X86

#include "begin_avx2.inl"
namespace largesteps {
namespace avx2 {
namespace {
constexpr int kWideVectors = 2;  // of eight numbers: see wide_sweep.inl
#include "all_kernels.inl"
}  // namespace
}  // namespace avx2

Kernels avx2_kernels() { return avx2::make("AVX2"); }

}  // namespace largesteps
#include "end_instruction_set.inl"

#else

largesteps::Kernels largesteps::avx2_kernels() { return baseline_kernels(); }

#endif

// The kernels for x86-64 processors with AVX-512.
#include "kernels.h"
#include "kernels_by_set.h"
#include "../structure/layout.h"

#if LARGESTEPS_X86

#include "begin_avx512.inl"
namespace largesteps {
namespace avx512 {
namespace {
constexpr int kWideVectors = 4;  // of eight numbers: see wide_sweep.inl
#include "all_kernels.inl"
}  // namespace
}  // namespace avx512

Kernels avx512_kernels() { return avx512::make("AVX-512"); }

}  // namespace largesteps
#include "end_instruction_set.inl"

#else

largesteps::Kernels largesteps::avx512_kernels() { return baseline_kernels(); }

#endif

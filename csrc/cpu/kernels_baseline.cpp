// The kernels for every processor: what the compiler takes for granted, SSE2 on x86-64 and NEON on AArch64.
#include "kernels.h"
#include "kernels_by_set.h"
#include "../structure/layout.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed between inlined functions only
#endif

namespace largesteps {
namespace baseline {
namespace {
constexpr int kWideVectors = 2;  // of eight numbers: see wide_sweep.inl
#include "all_kernels.inl"
}  // namespace
}  // namespace baseline

Kernels baseline_kernels() { return baseline::make("baseline"); }

}  // namespace largesteps

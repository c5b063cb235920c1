// The kernels of each instruction set; for kernels.cpp, which chooses among them.
#pragma once

#include "kernels.h"

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#define LARGESTEPS_X86 1
#else
#define LARGESTEPS_X86 0
#endif

namespace largesteps {

Kernels baseline_kernels();
#if LARGESTEPS_X86
Kernels avx2_kernels();
Kernels avx512_kernels();
#endif

}  // namespace largesteps

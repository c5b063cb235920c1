// The kernels of each instruction set; for kernels.cpp, which chooses among them.
#pragma once

#include "instruction_sets.h"
#include "kernels.h"

namespace largesteps {

Kernels baseline_kernels();
#if LARGESTEPS_X86
Kernels avx2_kernels();
Kernels avx512_kernels();
#endif

}  // namespace largesteps

// The kernels of each instruction set; for kernels.cpp, which chooses among them.
#pragma once

#include "../cpu/instruction_sets.h"
#include "kernels.h"

namespace largesteps::renderer {

AllKernels baseline_kernels();
#if LARGESTEPS_X86
AllKernels avx2_kernels();
AllKernels avx512_kernels();
#endif

}  // namespace largesteps::renderer

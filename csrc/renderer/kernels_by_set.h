// The kernels of each instruction set; for kernels.cpp, which chooses among them.
#pragma once

#include "../cpu/instruction_sets.h"
#include "kernels.h"

namespace largesteps::renderer {

AllKernels baseline_kernels();
// Not called on other processors, where they are those of the baseline.
AllKernels avx2_kernels();
AllKernels avx512_kernels();

}  // namespace largesteps::renderer

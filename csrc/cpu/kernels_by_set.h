// The kernels of each instruction set; for kernels.cpp, which chooses among them.
#pragma once

#include "instruction_sets.h"
#include "kernels.h"

namespace largesteps {

Kernels baseline_kernels();
// Not called on other processors, where they are those of the baseline.
Kernels avx2_kernels();
Kernels avx512_kernels();

}  // namespace largesteps

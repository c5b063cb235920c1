#include "kernels.h"

#include "kernels_by_set.h"

namespace largesteps::renderer {
namespace {

AllKernels choose() {
#if LARGESTEPS_X86
  switch (best_instruction_set()) {
    case InstructionSet::kAvx512:
      return avx512_kernels();
    case InstructionSet::kAvx2:
      return avx2_kernels();
    case InstructionSet::kBaseline:
      break;
  }
#endif
  return baseline_kernels();
}

}  // namespace

const AllKernels& kernels() {
  static const AllKernels chosen = choose();
  return chosen;
}

}  // namespace largesteps::renderer

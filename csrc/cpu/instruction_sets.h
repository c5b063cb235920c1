// Which vector instructions this processor has.
#pragma once

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#define LARGESTEPS_X86 1
#else
#define LARGESTEPS_X86 0
#endif

namespace largesteps {

enum class InstructionSet { kBaseline, kAvx2, kAvx512 };

// The best one that this processor has, or a lesser one that PT3D_LARGESTEPS_INSTRUCTION_SET names (baseline or avx2), for
// tests on a better processor.
InstructionSet best_instruction_set();

// What one of three functions makes: that of the best instruction set.
template <typename Kernels>
Kernels best_of(Kernels (*baseline)(), [[maybe_unused]] Kernels (*avx2)(), [[maybe_unused]] Kernels (*avx512)()) {
  switch (best_instruction_set()) {
    case InstructionSet::kAvx512:
      return avx512();
    case InstructionSet::kAvx2:
      return avx2();
    case InstructionSet::kBaseline:
      break;
  }
  return baseline();
}

}  // namespace largesteps

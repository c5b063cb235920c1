#include "instruction_sets.h"

#include <cstdlib>
#include <cstring>

namespace largesteps {

InstructionSet best_instruction_set() {
#if LARGESTEPS_X86
  const char* limit = std::getenv("PT3D_LARGESTEPS_INSTRUCTION_SET");
  const bool no_vectors = limit && std::strcmp(limit, "baseline") == 0;
  const bool no_avx512 = no_vectors || (limit && std::strcmp(limit, "avx2") == 0);
  __builtin_cpu_init();
  if (!no_avx512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma")) {
    return InstructionSet::kAvx512;
  }
  if (!no_vectors && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return InstructionSet::kAvx2;
#endif
  return InstructionSet::kBaseline;
}

}  // namespace largesteps

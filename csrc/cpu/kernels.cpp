#include "kernels.h"

#include <cstdlib>
#include <cstring>

#include "kernels_by_set.h"

namespace largesteps {
namespace {

Kernels choose() {
#if LARGESTEPS_X86
  // For tests of lesser sets on a better processor: the name of the best set to use.
  const char* limit = std::getenv("PT3D_LARGESTEPS_INSTRUCTION_SET");
  const bool no_vectors = limit && std::strcmp(limit, "baseline") == 0;
  const bool no_avx512 = no_vectors || (limit && std::strcmp(limit, "avx2") == 0);
  __builtin_cpu_init();
  if (!no_avx512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma")) {
    return avx512_kernels();
  }
  if (!no_vectors && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_kernels();
#endif
  return baseline_kernels();
}

}  // namespace

const Kernels& kernels() {
  static const Kernels chosen = choose();
  return chosen;
}

}  // namespace largesteps

#include "kernels.h"

#include "kernels_by_set.h"

namespace largesteps {

const Kernels& kernels() {
  static const Kernels chosen = best_of(baseline_kernels, avx2_kernels, avx512_kernels);
  return chosen;
}

}  // namespace largesteps

#include "kernels.h"

#include "kernels_by_set.h"

namespace largesteps::renderer {

const AllKernels& kernels() {
  static const AllKernels chosen = best_of(baseline_kernels, avx2_kernels, avx512_kernels);
  return chosen;
}

}  // namespace largesteps::renderer

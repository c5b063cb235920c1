// Streams, for those who launch kernels and for those who only ask for it. Without USE_CUDA they are those of the emulation that
// lies beside the tests.
#pragma once

#if defined(USE_CUDA)

#include <cuda_runtime.h>

namespace largesteps::device {

using Stream = cudaStream_t;

// What has gone wrong since the last call, or nullptr.
inline const char* last_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace largesteps::device

#else

#include "cuda_emulation.h"

#endif

// Streams, for code that launches kernels and for its callers. Without USE_CUDA they are those of the emulation in the tests.
#pragma once

#if defined(USE_CUDA)

#include <cuda_runtime.h>

namespace largesteps::device {

using Stream = cudaStream_t;

// The error since the last call, or nullptr.
inline const char* last_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace largesteps::device

#else

#include "cuda_emulation.h"

#endif

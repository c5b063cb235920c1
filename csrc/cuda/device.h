// The parts of CUDA that the kernels use, so that the tests can run them without a GPU.
#pragma once

#include <cstddef>
#include <cstdint>

#include "stream.h"

#if defined(USE_CUDA)

namespace largesteps::device {

// kernel<<<grid, num_threads>>>(arguments) on a stream.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, unsigned num_threads, Stream stream, Arguments... arguments) {
  kernel<<<grid, num_threads, 0, stream>>>(static_cast<Parameters>(arguments)...);
}

inline void fill_bytes(void* memory, int value, size_t size, Stream stream) {
  cudaMemsetAsync(memory, value, size, stream);
}

}  // namespace largesteps::device

#define LARGESTEPS_UNROLL _Pragma("unroll")

#else

#define LARGESTEPS_UNROLL

#endif

namespace largesteps::device {

// 16 bytes at an address that is a multiple of 16, which nothing writes to while the kernel runs.
template <typename T>
struct alignas(16) Vector {
  static constexpr int kSize = 16 / sizeof(T);
  T numbers[kSize];
};

__device__ __forceinline__ Vector<float> load_vector(const float* from) {
  const float4 four = __ldg(reinterpret_cast<const float4*>(from));
  return {{four.x, four.y, four.z, four.w}};
}

__device__ __forceinline__ Vector<double> load_vector(const double* from) {
  const double2 two = __ldg(reinterpret_cast<const double2*>(from));
  return {{two.x, two.y}};
}

// The first index in an increasing list whose number is at least the given one.
__device__ inline int32_t lower_bound(const int32_t* list, int32_t size, int32_t number) {
  int32_t begin = 0;
  while (size > 0) {
    const int32_t half = size / 2;
    if (list[begin + half] < number) {
      begin += half + 1;
      size -= half + 1;
    } else {
      size = half;
    }
  }
  return begin;
}

}  // namespace largesteps::device

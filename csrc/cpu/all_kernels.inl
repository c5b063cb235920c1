// Everything that is compiled per instruction set. The including file first includes all other headers, then chooses the set,
// then opens a separate namespace inside largesteps. The headers' definitions must not be compiled for a set that some
// processors lack.

#include "vectors.inl"

#include "dense.inl"
#include "narrow_sweep.inl"
#include "wide_sweep.inl"

template <typename T, int K>
SweepKernels<T> narrow() {
  return {{Batch<T, K>::forward, Batch<T, K>::backward}, {Single<T, K>::forward, Single<T, K>::backward}};
}

template <typename T, int S>
SweepKernels<T> wide() {
  return {{WideBatch<T, S>::forward, WideBatch<T, S>::backward}, {WideSingle<T, S>::forward, WideSingle<T, S>::backward}};
}

Kernels make(const char* name) {
  return {name,
          {narrow<float, 1>(), narrow<float, 2>(), narrow<float, 3>(), narrow<float, 4>(), wide<float, 1>(),
           wide<float, 2>(), wide<float, 4>()},
          {narrow<double, 1>(), narrow<double, 2>(), narrow<double, 3>(), narrow<double, 4>(), wide<double, 1>(),
           wide<double, 2>(), wide<double, 4>()},
          {invert, gather, scatter, scale, update}};
}

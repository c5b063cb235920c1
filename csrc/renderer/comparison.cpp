#include "no_contraction.h"

#include "comparison.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "../threads/parallel.h"
#include "scalar_shading.h"

namespace largesteps::renderer {
namespace {

template <typename T>
T given_at(const Target<T>& target, int64_t pixel, int channels, int c) {
  const int64_t at = pixel * channels + c;
  return target.of_bytes ? static_cast<T>(static_cast<const uint8_t*>(target.pixels)[at]) / T(255)
                         : static_cast<const T*>(target.pixels)[at];
}

template <typename T>
void measure(const Target<T>& target, T d, T& value, T& slope) {
  if (target.kind == Difference::kL1) {
    value = std::abs(d), slope = static_cast<T>((d > 0) - (d < 0));
  } else if (target.kind == Difference::kL2) {
    value = d * d, slope = d + d;
  } else {
    const T size = std::abs(d);
    value = size < target.beta ? T(0.5) * d * (d / target.beta) : size - T(0.5) * target.beta;
    slope = std::max(T(-1), std::min(T(1), d / target.beta));
  }
}

// The differences at the pixels that outlines change, one after the other, and their gradients.
template <typename T>
double compare_blended(const Batch& batch, const Frame<T>& frame, const Drawing<T>& d, const Points<T>& points,
                       const Pixels<T>& pixels, const Target<T>& target, const Crossing* begin, const Crossing* end, T* to) {
  double total = 0;
  while (begin != end) {
    const Crossing* next = begin;
    while (next != end && next->target() == begin->target()) ++next;
    const int64_t pixel = begin->target();
    const PixelShader<T> base(frame, d.perspective, points, pixels, begin->target());
    T own[4], color[4], other[4], gradient[4];
    base.color(own);
    std::copy(own, own + d.channels, color);
    T rest = 1;
    for (const Crossing* c = begin; c != next; ++c) {
      const T weight = cut_of(frame, batch.index, points, *c).blend();
      PixelShader<T>(frame, d.perspective, points, pixels, c->source()).color(other);
      for (int k = 0; k < d.channels; ++k) color[k] += weight * (other[k] - own[k]);
      rest -= weight;
    }
    const T weight = target.pixel_weights ? target.pixel_weights[pixel] : T(1);
    T loss = 0;
    for (int k = 0; k < d.channels; ++k) {
      T value, slope;
      measure(target, color[k] - given_at(target, pixel, d.channels, k), value, slope);
      loss += target.channel_weights[k] * value, gradient[k] = target.channel_weights[k] * weight * slope;
    }
    total += static_cast<double>(weight * loss);
    if (to) {
      base.backward(gradient, rest, to);
      for (const Crossing* c = begin; c != next; ++c) {
        const Cut<T> cut = cut_of(frame, batch.index, points, *c);
        const PixelShader<T> source(frame, d.perspective, points, pixels, c->source());
        source.color(other);
        T to_blend = 0;
        for (int k = 0; k < d.channels; ++k) to_blend += gradient[k] * (other[k] - own[k]);
        cut_backward(frame, *c, cut, to_blend, to);
        source.backward(gradient, cut.blend(), to);
      }
    }
    begin = next;
  }
  return total;
}

}  // namespace

template <typename T>
void compare(const Batch& batch, const Frame<T>& frame, const Drawing<T>& d, const std::vector<Target<T>>& targets, T* losses,
             T* to_points) {
  const Kernels<T>& kernel = kernels().of<T>();
  const Bands bands(batch.num_images, frame.height);
  std::optional<PartialGradients<T>> partial;
  if (to_points) partial.emplace(batch, bands, d.blocks, to_points);
  // the mean: in the weights, so that the gradient has it too
  const T scale = 1 / (static_cast<T>(frame.height) * static_cast<T>(frame.width) * static_cast<T>(d.channels));
  std::vector<Target<T>> scaled = targets;
  for (Target<T>& target : scaled) {
    for (T& weight : target.channel_weights) weight *= scale;
  }
  std::vector<std::vector<uint8_t>> marked(static_cast<size_t>(batch.num_images));
  parallel_for(batch.num_images, batch.num_threads, [&](int64_t n) {
    const auto [begin, end] = crossings_of(d.crossings, d.num_crossings, n);
    if (begin == end) return;
    marked[static_cast<size_t>(n)].assign(static_cast<size_t>(int64_t{frame.height} * frame.width), 0);
    for (const Crossing* c = begin; c != end; ++c) marked[static_cast<size_t>(n)][static_cast<size_t>(c->target())] = 1;
  });
  auto totals = numbers<double>(bands.num_parts);
  parallel_for(bands.num_parts, batch.num_threads, [&](int64_t part) {
    const int64_t image = bands.image(part);
    const auto& mark = marked[static_cast<size_t>(image)];
    totals[static_cast<size_t>(part)] = kernel.compare(
        frame, d.perspective, batch.points(d.points, image), pixels_of(frame, d, image), scaled[static_cast<size_t>(image)],
        mark.empty() ? nullptr : mark.data(), bands.first_row(part), bands.end_row(part), partial ? partial->start(part) : nullptr);
  });
  if (partial) partial->sum();
  parallel_for(batch.num_images, batch.num_threads, [&](int64_t n) {
    const auto [begin, end] = crossings_of(d.crossings, d.num_crossings, n);
    double total = compare_blended(batch, frame, d, batch.points(d.points, n), pixels_of(frame, d, n),
                                   scaled[static_cast<size_t>(n)], begin, end, partial ? partial->of(n) : nullptr);
    for (int64_t k = 0; k < bands.per_image; ++k) total += totals[static_cast<size_t>(n * bands.per_image + k)];
    losses[n] = static_cast<T>(total);
  });
}

template <typename T>
void scale_gradient(const Batch& batch, int32_t blocks, const T* scales, const T* gradient, T* to_points) {
  parallel_for(batch.num_images, batch.num_threads, [&](int64_t n) {
    for_planes(batch, blocks, n, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) to_points[k] = scales[n] * gradient[k];
    });
  });
}

#define LARGESTEPS_INSTANTIATE(T) \
  template void compare(const Batch&, const Frame<T>&, const Drawing<T>&, const std::vector<Target<T>>&, T*, T*); \
  template void scale_gradient(const Batch&, int32_t, const T*, const T*, T*);
LARGESTEPS_INSTANTIATE(float)
LARGESTEPS_INSTANTIATE(double)
#undef LARGESTEPS_INSTANTIATE

}  // namespace largesteps::renderer

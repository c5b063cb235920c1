// Random pictures to compare with, and the comparison in the plainest way.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "check.h"
#include "renderer_case.h"
#include "same.h"

namespace largesteps::renderer {

// Pictures to compare with: of numbers or of bytes, with weights or without.
template <typename T>
struct Targets {
  std::vector<T> numbers, weights;
  std::vector<uint8_t> bytes;
  std::vector<Target<T>> each;

  Targets(const Case<T>& given, int32_t channels, Difference kind, Uniform& random) {
    const int64_t size = int64_t{given.scene.height} * given.scene.width, count = given.num_pixels() * channels;
    const bool of_bytes = random.chance(2), weighted = random.chance(2);
    if (of_bytes) {
      bytes.resize(size_of(count));
      for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.below(256));
    } else {
      numbers = random_numbers<T>(random, count, -0.2, 1.2);
    }
    if (weighted) weights = random_numbers<T>(random, given.num_pixels(), 0, 2);
    for (int64_t image = 0; image < given.scene.num_images(); ++image) {
      const void* pixels = of_bytes ? static_cast<const void*>(bytes.data() + image * size * channels)
                                    : static_cast<const void*>(numbers.data() + image * size * channels);
      each.push_back({pixels, of_bytes, weighted ? weights.data() + image * size : nullptr, {}, kind, T(0.1)});
      for (T& weight : each.back().channel_weights) weight = static_cast<T>(random(0, 2));
    }
  }
  T at(size_t k) const { return bytes.empty() ? numbers[k] : T(bytes[k]) / T(255); }
};

inline double difference_of(Difference kind, double d, double beta) {
  const double size = std::abs(d);
  if (kind == Difference::kL1) return size;
  if (kind == Difference::kL2) return d * d;
  return size < beta ? 0.5 * d * d / beta : size - 0.5 * beta;
}

inline double slope_of(Difference kind, double d, double beta) {
  if (kind == Difference::kL2) return 2 * d;
  if (kind == Difference::kSmoothL1 && std::abs(d) < beta) return d / beta;
  return (d > 0) - (d < 0);
}

template <typename T>
struct Compared {
  std::vector<T> losses, to_points;
};

template <typename T>
Compared<T> compared(const Case<T>& given, const Drawing<T>& drawing, const Targets<T>& targets, int num_threads) {
  Compared<T> result = {unwritten<T>(given.scene.num_images()), unwritten<T>(static_cast<int64_t>(given.points.size()))};
  compare(given.batch(num_threads), given.frame, drawing, targets.each, result.losses.data(), result.to_points.data());
  std::vector<T> losses = unwritten<T>(given.scene.num_images());
  compare<T>(given.batch(num_threads), given.frame, drawing, targets.each, losses.data(), nullptr);
  CHECK(same(losses, result.losses));
  return result;
}

// The same from a picture: to draw, to compare, and back.
template <typename T>
Compared<T> drawn_and_compared(const Case<T>& given, const Drawing<T>& drawing, const Targets<T>& targets) {
  const std::vector<T> image = given.image(drawing, 1);
  std::vector<T> losses, gradient(image.size());
  const size_t size = size_of(int64_t{given.scene.height} * given.scene.width), channels = size_of(drawing.channels);
  for (size_t n = 0; n < targets.each.size(); ++n) {
    const Target<T>& target = targets.each[n];
    double sum = 0;
    for (size_t k = n * size * channels; k < (n + 1) * size * channels; ++k) {
      const double d = double(image[k]) - double(targets.at(k)), beta = double(target.beta);
      const double weight = double(target.channel_weights[k % channels]) * (target.pixel_weights ? double(targets.weights[k / channels]) : 1.0) /
                            double(size * channels);
      sum += weight * difference_of(target.kind, d, beta), gradient[k] = static_cast<T>(weight * slope_of(target.kind, d, beta));
    }
    losses.push_back(static_cast<T>(sum));
  }
  return {losses, given.image_backward(drawing, gradient, 1)};
}

}  // namespace largesteps::renderer

// Whether results are the same to the bit, or close.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <vector>

#include "renderer_case.h"

namespace largesteps::renderer {

template <typename T>
bool all_finite(const std::vector<T>& numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](T x) { return std::isfinite(x); });
}

// The same bits, or NaN in both.
template <typename T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](T x, T y) {
    return std::memcmp(&x, &y, sizeof(T)) == 0 || (x != x && y != y);
  });
}

inline bool same(const std::vector<Crossing>& a, const std::vector<Crossing>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(Crossing)) == 0);
}

template <typename T>
bool same(const Visible<T>& a, const Visible<T>& b) {
  return same(a.depth, b.depth) && same(a.faces, b.faces) && same(a.crossings, b.crossings);
}

// Within the share of the largest.
template <typename T>
bool close(const std::vector<T>& a, const std::vector<T>& b, double share) {
  double largest = 1e-30, difference = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    largest = std::max({largest, std::abs(double(a[k])), std::abs(double(b[k]))});
    difference = std::max(difference, std::abs(double(a[k]) - double(b[k])));
  }
  return a.size() == b.size() && difference <= share * largest;
}

}  // namespace largesteps::renderer

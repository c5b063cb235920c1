// The colour of a single pixel, for the few beside an outline, and its derivative: what shading.inl computes for eight.
#pragma once

#include <algorithm>
#include <cstdint>

#include "frame.h"
#include "kernels.h"

namespace largesteps::renderer {

template <typename T>
class PixelShader {
 public:
  PixelShader(const Frame<T>& frame, bool perspective, const Points<T>& points, const Pixels<T>& pixels, int32_t pixel)
      : pixels_(pixels), perspective_(perspective) {
    const int row = pixel / frame.width, col = pixel % frame.width;
    face_ = pixels.faces[int64_t{row} * frame.pitch + col];
    if (face_ < 0 || pixels.mode == Mode::kSilhouette) return;
    const int32_t* c = points.corners + 4 * int64_t{face_};
    for (int k = 0; k < 3; ++k) {
      rows_[k] = (c[k] + points.shift) * points.quads;
      corner_[k] = points.data + 4 * int64_t{rows_[k]};
      x_[k] = corner_[k][0] - frame.x[static_cast<size_t>(col)], y_[k] = corner_[k][1] - frame.y[static_cast<size_t>(row)];
      inverse_depth_[k] = perspective ? 1 / corner_[k][2] : T(1);
    }
    for (int k = 0; k < 3; ++k) {
      const int a = (k + 1) % 3, b = (k + 2) % 3;
      q_[k] = (x_[a] * y_[b] - y_[a] * x_[b]) * inverse_depth_[k];
    }
    inverse_sum_ = 1 / (q_[0] + q_[1] + q_[2]);
    for (int k = 0; k < 3; ++k) weight_[k] = q_[k] * inverse_sum_;
  }

  void color(T* to) const {
    if (pixels_.mode == Mode::kSilhouette) {
      to[0] = face_ >= 0 ? T(1) : T(0);
    } else if (face_ < 0) {
      const bool shaded = is_shaded();
      for (int c = 0; c < pixels_.channels; ++c) to[c] = shaded ? pixels_.background[c] : T(0);
    } else if (is_shaded()) {
      for (int c = 0; c < 3; ++c) to[c] = attribute(c) * (pixels_.mode == Mode::kProduct ? attribute(4 + c) : T(1));
      to[3] = 1;
    } else {
      for (int c = 0; c < pixels_.channels; ++c) to[c] = pixels_.mode == Mode::kWeights ? weight_[c] : attribute(c);
    }
  }

  // Adds scale times the derivative by the points of color . gradient.
  void backward(const T* gradient, T scale, T* to) const {
    if (face_ < 0 || pixels_.mode == Mode::kSilhouette) return;
    T to_weight[3] = {0, 0, 0};
    auto through = [&](int c, T g) {  // of an attribute
      for (int k = 0; k < 3; ++k) {
        to_weight[k] += g * corner_[k][4 + c];
        to[4 * int64_t{rows_[k]} + 4 + c] += weight_[k] * g;
      }
    };
    if (is_shaded()) {
      for (int c = 0; c < 3; ++c) {
        const T g = scale * gradient[c];
        if (pixels_.mode == Mode::kProduct) {
          const T first = attribute(c), second = attribute(4 + c);
          through(c, g * second), through(4 + c, g * first);
        } else {
          through(c, g);
        }
      }
    } else if (pixels_.mode == Mode::kWeights) {
      for (int k = 0; k < 3; ++k) to_weight[k] = scale * gradient[k];
    } else {
      for (int c = 0; c < pixels_.channels; ++c) through(c, scale * gradient[c]);
    }
    const T mean = to_weight[0] * weight_[0] + to_weight[1] * weight_[1] + to_weight[2] * weight_[2];
    T to_cross[3];
    for (int k = 0; k < 3; ++k) to_cross[k] = (to_weight[k] - mean) * inverse_sum_ * inverse_depth_[k];
    for (int k = 0; k < 3; ++k) {
      const int a = (k + 1) % 3, b = (k + 2) % 3;
      T* at = to + 4 * int64_t{rows_[k]};
      at[0] += to_cross[b] * y_[a] - to_cross[a] * y_[b];
      at[1] += to_cross[a] * x_[b] - to_cross[b] * x_[a];
      if (perspective_) at[2] -= to_cross[k] * q_[k];
    }
  }

 private:
  bool is_shaded() const { return pixels_.mode == Mode::kShaded || pixels_.mode == Mode::kProduct; }
  T attribute(int c) const {
    return weight_[0] * corner_[0][4 + c] + weight_[1] * corner_[1][4 + c] + weight_[2] * corner_[2][4 + c];
  }

  const Pixels<T>& pixels_;
  bool perspective_;
  int32_t face_ = -1;
  int32_t rows_[3] = {0, 0, 0};
  const T* corner_[3] = {nullptr, nullptr, nullptr};
  T x_[3], y_[3], inverse_depth_[3], q_[3], inverse_sum_, weight_[3];
};

}  // namespace largesteps::renderer

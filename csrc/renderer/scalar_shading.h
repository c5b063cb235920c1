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
      : pixels_(pixels), points_(points), perspective_(perspective) {
    const int row = pixel / frame.width, col = pixel % frame.width;
    face_ = pixels.faces[int64_t{row} * frame.pitch + col];
    if (face_ < 0 || pixels.mode == Mode::kSilhouette) return;
    const int32_t* c = points.corners + 4 * int64_t{face_};
    for (int k = 0; k < 3; ++k) {
      rows_[k] = c[k] + points.shift;
      const T* place = points.place(rows_[k]);
      x_[k] = place[0] - frame.x[static_cast<size_t>(col)], y_[k] = place[1] - frame.y[static_cast<size_t>(row)];
      inverse_depth_[k] = perspective ? 1 / place[2] : T(1);
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
        to_weight[k] += g * points_.data[number_of(k, c)];
        to[number_of(k, c)] += weight_[k] * g;
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
  // Where attribute c of a corner is among the numbers of the points.
  int64_t number_of(int corner, int c) const { return (1 + c / 4) * points_.plane + 4 * int64_t{rows_[corner]} + c % 4; }
  T attribute(int c) const {
    const T* a = points_.data;
    return weight_[0] * a[number_of(0, c)] + weight_[1] * a[number_of(1, c)] + weight_[2] * a[number_of(2, c)];
  }

  const Pixels<T>& pixels_;
  const Points<T>& points_;
  bool perspective_;
  int32_t face_ = -1;
  int32_t rows_[3] = {0, 0, 0};
  T x_[3], y_[3], inverse_depth_[3], q_[3], inverse_sum_, weight_[3];
};

}  // namespace largesteps::renderer

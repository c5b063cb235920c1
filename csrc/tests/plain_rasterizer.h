// The visible faces in the plainest way: each pixel against each face, with PyTorch3D's arithmetic.
#pragma once

#include "../renderer/no_contraction.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace largesteps {

template <typename T>
struct Corner {
  T x, y, z;
};

template <typename T>
struct PlainFace {
  Corner<T> corner[3];
  int32_t number;
};

template <typename T>
struct PlainCamera {
  bool perspective, clips, culls;
  T z_clip;
};

template <typename T>
struct Seen {
  T depth = std::numeric_limits<T>::infinity();
  int32_t face = -1;
};

constexpr double kSmallNumber = 1e-8;

// Of a pixel, counted from the side of -x or -y.
template <typename T>
T center_of(int pixel, int count, int other_count) {
  T range = 2;
  if (count > other_count) range = T(count) * range / T(other_count);
  const T offset = range / 2;
  return -offset + (range * T(pixel) + offset) / T(count);
}

template <typename T>
T edge_function(T x, T y, const Corner<T>& a, const Corner<T>& b) {
  return (x - a.x) * (b.y - a.y) - (y - a.y) * (b.x - a.x);
}

// Where the edge from a to b, which are on different sides, meets the plane.
template <typename T>
Corner<T> cut_edge(const PlainCamera<T>& camera, const Corner<T>& a, const Corner<T>& b) {
  const T weight = (a.z - camera.z_clip) / (a.z - b.z);
  Corner<T> cut = {a.x * (1 - weight) + b.x * weight, a.y * (1 - weight) + b.y * weight, a.z * (1 - weight) + b.z * weight};
  if (camera.perspective) {
    cut.x = (a.x * a.z * (1 - weight) + b.x * b.z * weight) / camera.z_clip;
    cut.y = (a.y * a.z * (1 - weight) + b.y * b.z * weight) / camera.z_clip;
  }
  return cut;
}

// What of a face lies before the plane.
template <typename T>
std::vector<PlainFace<T>> clipped(const PlainCamera<T>& camera, const PlainFace<T>& face) {
  int num_behind = 0;
  for (const Corner<T>& corner : face.corner) num_behind += corner.z < camera.z_clip;
  if (!camera.clips || num_behind == 0) return {face};
  if (num_behind == 3) return {};
  for (int k = 0;; ++k) {
    const Corner<T>&a = face.corner[k], &b = face.corner[(k + 1) % 3], &c = face.corner[(k + 2) % 3];
    if ((a.z < camera.z_clip) != (num_behind == 1)) continue;  // a is alone on its side
    const Corner<T> cut_b = cut_edge(camera, a, b), cut_c = cut_edge(camera, a, c);
    if (num_behind == 2) return {{{cut_b, cut_c, a}, face.number}};
    return {{{cut_b, b, cut_c}, face.number}, {{cut_c, b, c}, face.number}};
  }
}

template <typename T>
void look_at(const PlainCamera<T>& camera, const PlainFace<T>& face, T x, T y, Seen<T>& seen) {
  const Corner<T>&a = face.corner[0], &b = face.corner[1], &c = face.corner[2];
  const T facing = edge_function(a.x, a.y, b, c);
  if (a.z < kSmallNumber || b.z < kSmallNumber || c.z < kSmallNumber) return;
  if (!(std::abs(facing) > kSmallNumber) || (camera.culls && facing < 0)) return;
  const T area = static_cast<T>(static_cast<double>(edge_function(c.x, c.y, a, b)) + kSmallNumber);
  T u = edge_function(x, y, b, c) / area, v = edge_function(x, y, c, a) / area, w = edge_function(x, y, a, b) / area;
  if (!(u > 0 && v > 0 && w > 0)) return;
  if (camera.perspective) {
    u = u * b.z * c.z, v = v * a.z * c.z, w = w * a.z * b.z;
    const T sum = std::max(u + v + w, static_cast<T>(kSmallNumber));
    u = u / sum, v = v / sum, w = w / sum;
    if (!(u > 0 && v > 0 && w > 0)) return;
  }
  const T depth = u * a.z + v * b.z + w * c.z;
  if (!(depth >= 0)) return;
  const bool comes_first = depth == seen.depth && (seen.face < 0 || face.number < seen.face);
  if (depth < seen.depth || comes_first) seen = {depth, face.number};
}

// height x width.
template <typename T>
std::vector<Seen<T>> look(const PlainCamera<T>& camera, int height, int width, const std::vector<PlainFace<T>>& faces) {
  std::vector<Seen<T>> picture(static_cast<size_t>(height) * static_cast<size_t>(width));
  for (const PlainFace<T>& face : faces) {
    for (const PlainFace<T>& part : clipped(camera, face)) {
      for (int row = 0; row < height; ++row) {
        for (int col = 0; col < width; ++col) {
          look_at(camera, part, center_of<T>(width - 1 - col, width, height), center_of<T>(height - 1 - row, height, width),
                  picture[static_cast<size_t>(row) * static_cast<size_t>(width) + static_cast<size_t>(col)]);
        }
      }
    }
  }
  return picture;
}

}  // namespace largesteps

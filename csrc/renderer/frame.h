// The geometry of a picture: PyTorch3D's pixel centres in its normalised device coordinates (NDC).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace largesteps::renderer {

// PyTorch3D's small numbers: the least area and depth of a face, and what keeps divisions finite.
constexpr double kEpsilon = 1e-8;

// How faces are drawn.
template <typename T>
struct Camera {
  bool perspective;  // whether depth is interpolated perspectively
  bool clips;        // whether faces are cut at the plane of view-space depth z_clip
  bool culls;        // whether faces that are seen from behind are skipped
  T z_clip;
};

// Rows and columns are those of the picture: row 0 is its top, +y of NDC, and column 0 its left side, +x of NDC.
template <typename T>
struct Frame {
  int height, width;
  int pitch;          // numbers from one row of a buffer of pixels to the next: vectors may reach over the end of a row
  T half_x, half_y;   // of the extent in NDC
  T to_col, to_row;   // pixels in a unit of NDC
  T mid_col, mid_row; // the place of NDC's origin
  T slack_x, slack_y; // in pixels: no rounding loses a pixel that the exact test keeps
  std::vector<T> x, y;  // NDC of the pixel centres, of each column and row, padded

  Frame(int num_rows, int num_cols) : height(num_rows), width(num_cols), pitch(pitch_of(num_cols)) {
    const double shorter = std::min(height, width), hx = width / shorter, hy = height / shorter;
    half_x = static_cast<T>(hx), half_y = static_cast<T>(hy);
    to_col = static_cast<T>(width / (2 * hx)), to_row = static_cast<T>(height / (2 * hy));
    mid_col = static_cast<T>((width - 1) / 2.0), mid_row = static_cast<T>((height - 1) / 2.0);
    const double rounding = sizeof(T) == 4 ? 6e-8 : 1.2e-16;
    slack_x = static_cast<T>(std::max(1e-3, 8 * rounding * width)), slack_y = static_cast<T>(std::max(1e-3, 8 * rounding * height));
    centers(x, width, pitch, static_cast<T>(2 * hx));
    centers(y, height, height + 1, static_cast<T>(2 * hy));
  }

  static int pitch_of(int width) { return (width + 7) / 8 * 8 + 8; }

 private:
  // In PyTorch3D's order of operations, which decides the last bit. It counts from the other side.
  static void centers(std::vector<T>& to, int count, int padded, T range) {
    to.assign(static_cast<size_t>(padded), T(0));
    const T offset = range / 2;
    for (int i = 0; i < count; ++i) to[static_cast<size_t>(count - 1 - i)] = -offset + (range * T(i) + offset) / T(count);
  }
};

// What a pixel shows.
enum class Mode : int32_t {
  kSilhouette,  // 1 channel: 1 on the meshes
  kShaded,      // 4 channels: the first three attributes, and 1 on the meshes; the background, and 0, elsewhere
  kProduct,     // the same, of the product of the attributes 0 to 2 and 4 to 6, each interpolated
  kAttributes,  // all attributes, and 0 elsewhere
  kWeights,     // 3 channels: the barycentric coordinates in the visible face
};

enum class Difference : int32_t { kL1, kL2, kSmoothL1 };

}  // namespace largesteps::renderer

#include "cutting_planes.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace largesteps {

namespace {

constexpr int32_t kMinPointsForChoice = 150;
// Parts with more points than this are sampled: every second or third point, and a fixed number for large parts.
constexpr int32_t kPointsPerSample = 600;
constexpr int32_t kMaxSparse = 2;
constexpr int32_t kMaxSamples = 8192;
constexpr size_t kNumAxes = 9;  // the axes of inertia, and those between each two of them
constexpr int32_t kMaxSlices = 48;
constexpr double kSlicesPerRoot = 0.6;  // of the number of samples: slices of large parts are thin, but not empty
constexpr double kMaxShift = 0.14;    // each side of a plane has at least 0.5 minus this share of the points
constexpr double kShiftWeight = 2.0;  // penalty for a plane that is not at the median

using Matrix = std::array<double, 6>;  // symmetric: xx, yy, zz, xy, xz, yz
using Vector = std::array<double, 3>;

struct Moments {
  Vector mean;
  Matrix spread;  // the sum of products of distances from the mean
};

Moments moments_of(const PlacedVertex* points, int32_t num_verts) {
  // Relative to one of the points, so that small parts far from the origin lose no digits.
  const PlacedVertex origin = points[0];
  double x = 0, y = 0, z = 0;
  Matrix sum = {0, 0, 0, 0, 0, 0};
  for (int32_t index = 0; index < num_verts; ++index) {
    const double dx = static_cast<double>(points[index].x - origin.x);
    const double dy = static_cast<double>(points[index].y - origin.y);
    const double dz = static_cast<double>(points[index].z - origin.z);
    x += dx;
    y += dy;
    z += dz;
    sum[0] += dx * dx;
    sum[1] += dy * dy;
    sum[2] += dz * dz;
    sum[3] += dx * dy;
    sum[4] += dx * dz;
    sum[5] += dy * dz;
  }
  const double scale = 1.0 / num_verts;
  return {{origin.x + x * scale, origin.y + y * scale, origin.z + z * scale},
          {sum[0] - x * x * scale, sum[1] - y * y * scale, sum[2] - z * z * scale, sum[3] - x * y * scale,
           sum[4] - x * z * scale, sum[5] - y * z * scale}};
}

double spread_along(const Matrix& m, const Vector& a) {
  return a[0] * (m[0] * a[0] + m[3] * a[1] + m[4] * a[2]) + a[1] * (m[3] * a[0] + m[1] * a[1] + m[5] * a[2]) +
         a[2] * (m[4] * a[0] + m[5] * a[1] + m[2] * a[2]);
}

Matrix squared(const Matrix& m) {
  return {m[0] * m[0] + m[3] * m[3] + m[4] * m[4], m[3] * m[3] + m[1] * m[1] + m[5] * m[5],
          m[4] * m[4] + m[5] * m[5] + m[2] * m[2], m[0] * m[3] + m[3] * m[1] + m[4] * m[5],
          m[0] * m[4] + m[3] * m[5] + m[4] * m[2], m[3] * m[4] + m[1] * m[5] + m[5] * m[2]};
}

// The eigenvector of the largest eigenvalue, by squaring the matrix until the other eigenvalues vanish.
Vector principal_axis(Matrix m) {
  for (int round = 0; round < 7; ++round) {
    double largest = 0;
    for (const double entry : m) largest = std::max(largest, std::abs(entry));
    if (!(largest > std::numeric_limits<double>::min())) return {1, 0, 0};
    for (double& entry : m) entry /= largest;
    m = squared(m);
  }
  // The column with the largest entry on the diagonal is not zero.
  Vector axis = {m[0], m[3], m[4]};
  if (m[1] > m[0] && m[1] >= m[2]) axis = {m[3], m[1], m[5]};
  if (m[2] > m[0] && m[2] > m[1]) axis = {m[4], m[5], m[2]};
  const double length = std::sqrt(axis[0] * axis[0] + axis[1] * axis[1] + axis[2] * axis[2]);
  return {axis[0] / length, axis[1] / length, axis[2] / length};
}

// The matrix without its part along the axis.
Matrix deflated(const Matrix& m, const Vector& a) {
  const double value = spread_along(m, a);
  return {m[0] - value * a[0] * a[0], m[1] - value * a[1] * a[1], m[2] - value * a[2] * a[2],
          m[3] - value * a[0] * a[1], m[4] - value * a[0] * a[2], m[5] - value * a[1] * a[2]};
}

// Of length 1, or 0.
Vector unit(const Vector& axis) {
  const double length = std::sqrt(axis[0] * axis[0] + axis[1] * axis[1] + axis[2] * axis[2]);
  const double scale = length > 0 ? 1.0 / length : 0.0;
  return {axis[0] * scale, axis[1] * scale, axis[2] * scale};
}

std::array<float, 3> rounded(const Vector& axis) {
  return {static_cast<float>(axis[0]), static_cast<float>(axis[1]), static_cast<float>(axis[2])};
}

// The directions across which planes are searched, and counts of the points in slices of equal thickness along each. The slices
// reach as far from the mean as the median can be; the first and the last also hold everything beyond.
struct Slices {
  std::array<std::array<float, 3>, kNumAxes> axes;
  std::array<float, kNumAxes> lowest;
  std::array<float, kNumAxes> per_height;
  int32_t num_slices;
  int32_t num_samples;
  std::array<std::array<int32_t, kMaxSlices>, kNumAxes> counts = {};
  std::array<std::array<float, kMaxSlices>, kNumAxes> reach = {};
};

void set_axis(const Moments& moments, int32_t num_points, const Vector& axis, size_t index, Slices& slices) {
  const double deviation = std::sqrt(std::max(0.0, spread_along(moments.spread, axis) / num_points));
  const double middle = moments.mean[0] * axis[0] + moments.mean[1] * axis[1] + moments.mean[2] * axis[2];
  const double inner = 0.5 * (slices.num_slices - 2);
  const auto per_height = static_cast<float>(inner / deviation);
  slices.axes[index] = rounded(axis);
  // (Almost) all points have one height: they go into the first slice, so that there is no plane.
  slices.per_height[index] = std::isfinite(per_height) ? per_height : 0.0F;
  slices.lowest[index] = static_cast<float>(middle - deviation - deviation / inner);
}

// Point by point for all axes together: successive points tend to be in the same slice, and additions to the same number have
// to wait for each other. The slices of a point along four axes are found at once and without branches.
void count(const PlacedVertex* points, int32_t num_points, int32_t stride, Slices& slices) {
  typedef float Four __attribute__((vector_size(16)));
  typedef int32_t FourIndices __attribute__((vector_size(16)));
  constexpr size_t kNumFours = (kNumAxes + 3) / 4;
  Four x[kNumFours] = {}, y[kNumFours] = {}, z[kNumFours] = {}, lowest[kNumFours] = {}, per_height[kNumFours] = {};
  for (size_t axis = 0; axis < kNumAxes; ++axis) {
    const size_t four = axis / 4, lane = axis % 4;
    x[four][lane] = slices.axes[axis][0];
    y[four][lane] = slices.axes[axis][1];
    z[four][lane] = slices.axes[axis][2];
    lowest[four][lane] = slices.lowest[axis];
    per_height[four][lane] = slices.per_height[axis];
  }
  const Four first = {}, last = first + static_cast<float>(slices.num_slices - 1);
  for (int32_t index = 0; index < num_points; index += stride) {
    const PlacedVertex point = points[index];
    FourIndices place[kNumFours];
    for (size_t four = 0; four < kNumFours; ++four) {
      const Four height = x[four] * point.x + y[four] * point.y + z[four] * point.z;
      Four slice = (height - lowest[four]) * per_height[four];
      slice = slice > first ? slice : first;
      slice = slice < last ? slice : last;
      place[four] = __builtin_convertvector(slice, FourIndices);
    }
    for (size_t axis = 0; axis < kNumAxes; ++axis) {
      const auto slice = static_cast<size_t>(place[axis / 4][axis % 4]);
      ++slices.counts[axis][slice];
      slices.reach[axis][slice] += point.reach;
    }
  }
}

// The best plane across an axis, with infinitely many crossings if there is none. An edge of length r can cross a plane at a
// distance of about r, so the number of crossing edges is estimated by the sum of r over the slices beside the plane, divided
// by their thickness.
Plane best_across(const Slices& slices, size_t axis) {
  Plane best = {slices.axes[axis], 0.0F, false, std::numeric_limits<double>::infinity()};
  const std::array<float, kMaxSlices>& reach = slices.reach[axis];
  int32_t below = slices.counts[axis][0];
  for (size_t slice = 2; slice + 1 < static_cast<size_t>(slices.num_slices); ++slice) {
    below += slices.counts[axis][slice - 1];
    const double shift = static_cast<double>(below) / slices.num_samples - 0.5;
    if (std::abs(shift) > kMaxShift) continue;
    const double crossings = static_cast<double>((reach[slice - 1] + reach[slice]) * slices.per_height[axis]);
    const double penalised = crossings * (1.0 + kShiftWeight * shift * shift);
    if (penalised >= best.crossings) continue;
    best.crossings = penalised;
    best.height = slices.lowest[axis] + static_cast<float>(slice) / slices.per_height[axis];
  }
  return best;
}

}  // namespace

const std::vector<Plane>& PlaneChooser::choose(const PlacedVertex* points, int32_t num_points) {
  planes_.clear();
  const Moments moments = moments_of(points, num_points);
  const Vector longest = principal_axis(moments.spread);
  if (num_points >= kMinPointsForChoice) {
    const Vector middle = principal_axis(deflated(moments.spread, longest));
    const Vector shortest = {longest[1] * middle[2] - longest[2] * middle[1],
                             longest[2] * middle[0] - longest[0] * middle[2],
                             longest[0] * middle[1] - longest[1] * middle[0]};
    const std::array<Vector, 3> axes = {longest, middle, shortest};
    Slices slices;
    const int32_t stride = 1 + std::max(std::min(num_points / kPointsPerSample, kMaxSparse), num_points / kMaxSamples);
    slices.num_samples = (num_points - 1) / stride + 1;
    slices.num_slices = std::min(kMaxSlices, 4 + static_cast<int32_t>(kSlicesPerRoot * std::sqrt(slices.num_samples)));
    for (size_t index = 0; index < 3; ++index) {
      const Vector& one = axes[index];
      const Vector& two = axes[(index + 1) % 3];
      set_axis(moments, num_points, unit(one), index, slices);
      set_axis(moments, num_points, unit({one[0] + two[0], one[1] + two[1], one[2] + two[2]}), index + 3, slices);
      set_axis(moments, num_points, unit({one[0] - two[0], one[1] - two[1], one[2] - two[2]}), index + 6, slices);
    }
    count(points, num_points, stride, slices);
    for (size_t axis = 0; axis < kNumAxes; ++axis) {
      const Plane plane = best_across(slices, axis);
      if (std::isfinite(plane.crossings)) planes_.push_back(plane);
    }
    std::stable_sort(planes_.begin(), planes_.end(),
                     [](const Plane& one, const Plane& two) { return one.crossings < two.crossings; });
  }
  if (planes_.empty()) planes_.push_back({rounded(longest), 0.0F, true, 0.0});
  return planes_;
}

}  // namespace largesteps

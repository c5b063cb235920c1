// What drawing a batch and comparing it have in common: what the images show, and bands of rows that threads share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "../threads/parallel.h"
#include "batch.h"
#include "frame.h"
#include "outlines.h"

namespace largesteps::renderer {

// What all images of a batch show.
template <typename T>
struct Drawing {
  const T* points;
  int32_t blocks;
  const int32_t* faces;
  const Crossing* crossings;
  int64_t num_crossings;
  bool perspective;
  Mode mode;
  int32_t channels;
  T background[4];
};

template <typename T>
Pixels<T> pixels_of(const Frame<T>& frame, const Drawing<T>& d, int64_t image) {
  Pixels<T> pixels = {d.faces + image * frame.height * frame.pitch, d.mode, d.channels, {}};
  std::copy(d.background, d.background + 4, pixels.background);
  return pixels;
}

// Those of one image.
inline std::pair<const Crossing*, const Crossing*> crossings_of(const Crossing* crossings, int64_t count, int64_t image) {
  auto earlier = [](const Crossing& c, int64_t n) { return c.image < n; };
  const Crossing* begin = std::lower_bound(crossings, crossings + count, image, earlier);
  return {begin, std::lower_bound(begin, crossings + count, image + 1, earlier)};
}

// Fewer images than this are cut into bands of rows, so that a few threads have something to do.
constexpr int64_t kLeastParts = 2;

// Parts of the images: bands of rows.
struct Bands {
  int64_t per_image, num_parts;
  int height;

  Bands(int64_t num_images, int num_rows) : height(num_rows) {
    per_image = num_images >= kLeastParts || num_images == 0 ? 1 : (kLeastParts + num_images - 1) / num_images;
    per_image = std::min<int64_t>(per_image, height);
    num_parts = num_images * per_image;
  }
  int64_t image(int64_t part) const { return part / per_image; }
  int first_row(int64_t part) const { return static_cast<int>(height * (part % per_image) / per_image); }
  int end_row(int64_t part) const { return static_cast<int>(height * (part % per_image + 1) / per_image); }
};

// Gradients of the points, made by several parts of an image: each part has its own, which are added in order.
template <typename T>
class PartialGradients {
 public:
  PartialGradients(const Batch& batch, const Bands& bands, int32_t blocks, T* to)
      : batch_(batch), bands_(bands), blocks_(blocks), size_((1 + blocks) * batch.plane()), to_(to),
        others_(new T[static_cast<size_t>(std::max<int64_t>(bands.per_image - 1, 0) * size_)]) {}
  // Zeros, to which the part adds the gradients of its image's points.
  T* start(int64_t part) const {
    const int64_t which = part % bands_.per_image, image = bands_.image(part);
    T* all = which == 0 ? to_ : others_.get() + (which - 1) * size_;
    clear_points(batch_, blocks_, image, all);
    return all + 4 * batch_.first_row(image);
  }
  void sum() const {
    constexpr int64_t kPiece = 16384;
    if (bands_.per_image <= 1) return;
    parallel_for((size_ + kPiece - 1) / kPiece, batch_.num_threads, [&](int64_t piece) {
      const int64_t begin = piece * kPiece, end = std::min(begin + kPiece, size_);
      for (int64_t which = 1; which < bands_.per_image; ++which) {
        const T* from = others_.get() + (which - 1) * size_;
        for (int64_t k = begin; k < end; ++k) to_[k] += from[k];
      }
    });
  }
  // Of the image, once they are summed.
  T* of(int64_t image) const { return to_ + 4 * batch_.first_row(image); }

 private:
  const Batch& batch_;
  const Bands& bands_;
  int32_t blocks_;
  int64_t size_;
  T* to_;
  std::unique_ptr<T[]> others_;
};

}  // namespace largesteps::renderer

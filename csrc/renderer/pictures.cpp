#include "no_contraction.h"

#include "pictures.h"

#include <vector>

#include "../threads/parallel.h"
#include "scalar_shading.h"

namespace largesteps::renderer {

template <typename T>
void draw(const Batch& batch, const Frame<T>& frame, const Drawing<T>& d, T* images) {
  const Kernels<T>& kernel = kernels().of<T>();
  const Bands bands(batch.num_images, frame.height);
  const int64_t image_size = int64_t{frame.height} * frame.width * d.channels;
  parallel_for(bands.num_parts, batch.num_threads, [&](int64_t part) {
    const int64_t image = bands.image(part);
    kernel.draw(frame, d.perspective, batch.points(d.points, image), pixels_of(frame, d, image), bands.first_row(part),
                bands.end_row(part), images + image * image_size);
  });
  blend(batch, frame, d, images);
}

template <typename T>
void blend(const Batch& batch, const Frame<T>& frame, const Drawing<T>& d, T* images) {
  const int64_t image_size = int64_t{frame.height} * frame.width * d.channels;
  if (!d.num_crossings) return;
  parallel_for(batch.num_images, batch.num_threads, [&](int64_t n) {
    const auto [begin, end] = crossings_of(d.crossings, d.num_crossings, n);
    const Points<T> points = batch.points(d.points, n);
    T* image = images + n * image_size;
    // all changes are of the colours before any change
    auto changes = numbers<T>((end - begin) * d.channels);
    T* change = changes.data();
    for (const Crossing* c = begin; c != end; ++c) {
      const T weight = cut_of(frame, batch.index, points, *c).blend();
      const T *source = image + int64_t{c->source()} * d.channels, *target = image + int64_t{c->target()} * d.channels;
      for (int k = 0; k < d.channels; ++k) *change++ = weight * (source[k] - target[k]);
    }
    change = changes.data();
    for (const Crossing* c = begin; c != end; ++c) {
      for (int k = 0; k < d.channels; ++k) image[int64_t{c->target()} * d.channels + k] += *change++;
    }
  });
}

template <typename T>
void draw_backward(const Batch& batch, const Frame<T>& frame, const Drawing<T>& d, const T* gradient, T* to_points) {
  const Kernels<T>& kernel = kernels().of<T>();
  const Bands bands(batch.num_images, frame.height);
  const int64_t image_size = int64_t{frame.height} * frame.width * d.channels;
  PartialGradients<T> partial(batch, bands, d.blocks, to_points);
  parallel_for(bands.num_parts, batch.num_threads, [&](int64_t part) {
    const int64_t image = bands.image(part);
    kernel.draw_backward(frame, d.perspective, batch.points(d.points, image), pixels_of(frame, d, image),
                         bands.first_row(part), bands.end_row(part), gradient + image * image_size, partial.start(part));
  });
  partial.sum();
  parallel_for(batch.num_images, batch.num_threads, [&](int64_t n) {
    const auto [begin, end] = crossings_of(d.crossings, d.num_crossings, n);
    const Points<T> points = batch.points(d.points, n);
    const Pixels<T> pixels = pixels_of(frame, d, n);
    T* to = partial.of(n);
    T source_color[kMostChannels], target_color[kMostChannels];
    for (const Crossing* c = begin; c != end; ++c) {
      const T* g = gradient + n * image_size + int64_t{c->target()} * d.channels;
      const Cut<T> cut = cut_of(frame, batch.index, points, *c);
      const PixelShader<T> source(frame, d.perspective, points, pixels, c->source());
      const PixelShader<T> target(frame, d.perspective, points, pixels, c->target());
      source.color(source_color), target.color(target_color);
      T to_blend = 0;
      for (int k = 0; k < d.channels; ++k) to_blend += g[k] * (source_color[k] - target_color[k]);
      cut_backward(frame, *c, cut, to_blend, to);
      source.backward(g, cut.blend(), to), target.backward(g, -cut.blend(), to);
    }
  });
}

template <typename T>
void blend_backward(const Batch& batch, const Frame<T>& frame, const Drawing<T>& d, const T* images, T* to_images, T* to_points) {
  const int64_t image_size = int64_t{frame.height} * frame.width * d.channels;
  parallel_for(batch.num_images, batch.num_threads, [&](int64_t n) {
    const auto [begin, end] = crossings_of(d.crossings, d.num_crossings, n);
    const Points<T> points = batch.points(d.points, n);
    const T* image = images + n * image_size;
    T *to_image = to_images + n * image_size, *to = to_points + 4 * batch.first_row(n);
    clear_points(batch, d.blocks, n, to_points);
    auto changes = numbers<T>((end - begin) * d.channels);
    T* change = changes.data();
    for (const Crossing* c = begin; c != end; ++c) {
      const Cut<T> cut = cut_of(frame, batch.index, points, *c);
      const int64_t source = int64_t{c->source()} * d.channels, target = int64_t{c->target()} * d.channels;
      T to_blend = 0;
      for (int k = 0; k < d.channels; ++k) {
        to_blend += to_image[target + k] * (image[source + k] - image[target + k]);
        *change++ = cut.blend() * to_image[target + k];
      }
      cut_backward(frame, *c, cut, to_blend, to);
    }
    change = changes.data();
    for (const Crossing* c = begin; c != end; ++c) {
      for (int k = 0; k < d.channels; ++k, ++change) {
        to_image[int64_t{c->source()} * d.channels + k] += *change, to_image[int64_t{c->target()} * d.channels + k] -= *change;
      }
    }
  });
}

#define LARGESTEPS_INSTANTIATE(T) \
  template void draw(const Batch&, const Frame<T>&, const Drawing<T>&, T*); \
  template void blend(const Batch&, const Frame<T>&, const Drawing<T>&, T*); \
  template void draw_backward(const Batch&, const Frame<T>&, const Drawing<T>&, const T*, T*); \
  template void blend_backward(const Batch&, const Frame<T>&, const Drawing<T>&, const T*, T*, T*);
LARGESTEPS_INSTANTIATE(float)
LARGESTEPS_INSTANTIATE(double)
#undef LARGESTEPS_INSTANTIATE

}  // namespace largesteps::renderer

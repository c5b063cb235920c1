#include "visibility.h"

#include <algorithm>
#include <limits>

#include "../threads/parallel.h"
#include "drawing.h"

namespace largesteps::renderer {

template <typename T>
std::vector<Crossing> rasterize(const Batch& batch, const Frame<T>& frame, const Camera<T>& camera, const T* points,
                                bool outlined, T* depth, int32_t* faces) {
  const Kernels<T>& kernel = kernels().of<T>();
  const Bands bands(batch.num_images, frame.height);
  const int64_t image_size = int64_t{frame.height} * frame.pitch, num_faces = batch.index[kNumFaces];
  // The sides of an image's faces are at the places of its mesh's faces.
  std::vector<int8_t> sides(static_cast<size_t>(outlined ? batch.images_per_mesh() * num_faces : 0));
  auto sides_of = [&](int64_t image) { return sides.data() + image % batch.images_per_mesh() * num_faces; };
  parallel_for(bands.num_parts, batch.num_threads, [&](int64_t part) {
    const int64_t image = bands.image(part), mesh = batch.mesh_of(image);
    const int first = bands.first_row(part), end = bands.end_row(part);
    T* image_depth = depth + image * image_size;
    int32_t* image_faces = faces + image * image_size;
    std::fill(image_depth + int64_t{first} * frame.pitch, image_depth + int64_t{end} * frame.pitch,
              std::numeric_limits<T>::infinity());
    std::fill(image_faces + int64_t{first} * frame.pitch, image_faces + int64_t{end} * frame.pitch, -1);
    kernel.rasterize(frame, camera, batch.points(points, image), batch.index[kFaceOrder], batch.index[kFaceFirst][mesh],
                     batch.index[kFaceFirst][mesh + 1], first, end, {image_depth, image_faces},
                     outlined && first == 0 ? sides_of(image) : nullptr);
  });
  std::vector<std::vector<Crossing>> crossings(static_cast<size_t>(outlined ? batch.num_images : 0));
  parallel_for(static_cast<int64_t>(crossings.size()), batch.num_threads, [&](int64_t image) {
    crossings[static_cast<size_t>(image)] =
        find_crossings(frame, camera, batch.index, batch.mesh_of(image), static_cast<int32_t>(image),
                       batch.points(points, image), depth + image * image_size, sides_of(image));
  });
  std::vector<Crossing> all;
  for (const auto& of_image : crossings) all.insert(all.end(), of_image.begin(), of_image.end());
  return all;
}

bool crossings_fit(const Batch& batch, int height, int width, const Crossing* crossings, int64_t count) {
  const int64_t num_pixels = int64_t{height} * width;
  int32_t last = 0;
  for (const Crossing* c = crossings; c != crossings + count; ++c) {
    if (c->image < last || c->image >= batch.num_images) return false;
    const int32_t* edge_first = batch.index[kEdgeFirst] + batch.mesh_of(c->image);
    if (c->edge < edge_first[0] || c->edge >= edge_first[1]) return false;
    if (std::min(c->inside, c->outside) < 0 || std::max(c->inside, c->outside) >= num_pixels) return false;
    last = c->image;
  }
  return true;
}

#define LARGESTEPS_INSTANTIATE(T) \
  template std::vector<Crossing> rasterize(const Batch&, const Frame<T>&, const Camera<T>&, const T*, bool, T*, int32_t*);
LARGESTEPS_INSTANTIATE(float)
LARGESTEPS_INSTANTIATE(double)
#undef LARGESTEPS_INSTANTIATE

}  // namespace largesteps::renderer

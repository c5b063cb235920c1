// A scene as the renderer takes it, and what the renderer makes of it; for the programs that test it.
#pragma once

#include "../renderer/no_contraction.h"

#include <cstring>
#include <limits>
#include <vector>

#include "../renderer/comparison.h"
#include "../renderer/pictures.h"
#include "../renderer/points.h"
#include "../renderer/visibility.h"
#include "scenes.h"

namespace largesteps::renderer {

inline size_t size_of(int64_t count) { return static_cast<size_t>(count); }

template <typename T>
std::vector<T> random_numbers(Uniform& random, int64_t count, double low, double high) {
  std::vector<T> result(size_of(count));
  for (T& number : result) number = static_cast<T>(random(low, high));
  return result;
}

// To begin with there is what no result can be, so that a number that is not written is seen.
template <typename T>
std::vector<T> unwritten(int64_t count) {
  return std::vector<T>(size_of(count), std::numeric_limits<T>::quiet_NaN());
}

inline std::vector<int32_t> index_of(const Scene& scene) {
  return make_mesh_index(scene.faces.data(), scene.num_meshes(), scene.vert_first.data(), scene.face_first.data());
}

template <typename T>
struct Visible {
  std::vector<T> depth;
  std::vector<int32_t> faces;
  std::vector<Crossing> crossings;
};

template <typename T>
struct Case {
  Scene scene;
  int32_t blocks;
  std::vector<int32_t> index;
  Frame<T> frame;
  Camera<T> camera;
  std::vector<T> points;
  std::vector<int32_t> row_of_vert;  // of the batch, in each image of its mesh

  // given: the points with the vertices in the given order.
  Case(const Scene& seen, int32_t num_blocks, const std::vector<T>& given)
      : scene(seen), blocks(num_blocks), index(index_of(scene)), frame(scene.height, scene.width),
        camera{scene.perspective, scene.clips, scene.culls, static_cast<T>(scene.z_clip)}, points(given.size()),
        row_of_vert(size_of(scene.num_verts())) {
    const MeshIndex view = {index.data()};
    for (int64_t m = 0; m < scene.num_meshes(); ++m) {
      const int64_t first = scene.vert_first[size_of(m)], count = scene.vert_first[size_of(m) + 1] - first;
      for (int64_t row = 0; row < count; ++row) row_of_vert[size_of(view[kVertOrder][first + row])] = static_cast<int32_t>(row);
      for (int64_t k = 0; k < scene.images_per_mesh; ++k) {
        const int64_t begin = scene.images_per_mesh * first + k * count;
        for (int64_t p = 0; p <= blocks; ++p) {
          const int64_t plane = p * batch(1).plane();
          for (int64_t v = 0; v < count; ++v) {
            std::copy_n(given.data() + plane + 4 * (begin + v), 4, points.data() + plane + 4 * (begin + row_of_vert[size_of(first + v)]));
          }
        }
      }
    }
  }

  Batch batch(int num_threads) const { return {{index.data()}, scene.num_images(), num_threads}; }
  int64_t num_pixels() const { return scene.num_images() * scene.height * scene.width; }

  Visible<T> visible(int num_threads, bool outlined) const {
    const int64_t count = scene.num_images() * scene.height * frame.pitch;
    Visible<T> result = {unwritten<T>(count), std::vector<int32_t>(size_of(count), -7), {}};
    result.crossings = rasterize(batch(num_threads), frame, camera, points.data(), outlined, result.depth.data(), result.faces.data());
    return result;
  }
  Drawing<T> drawing(const Visible<T>& visible, Mode mode) const {
    const int32_t channels = mode == Mode::kSilhouette ? 1 : mode == Mode::kWeights ? 3 : mode == Mode::kAttributes ? 4 * blocks : 4;
    return {points.data(), blocks, visible.faces.data(), visible.crossings.data(), static_cast<int64_t>(visible.crossings.size()),
            scene.perspective, mode, channels, {T(0.2), T(0.9), T(0.4), T(0.1)}};
  }
  std::vector<T> image(const Drawing<T>& drawing, int num_threads) const {
    std::vector<T> result = unwritten<T>(num_pixels() * drawing.channels);
    draw(batch(num_threads), frame, drawing, result.data());
    return result;
  }
  std::vector<T> image_backward(const Drawing<T>& drawing, const std::vector<T>& gradient, int num_threads) const {
    std::vector<T> result = unwritten<T>(static_cast<int64_t>(points.size()));
    draw_backward(batch(num_threads), frame, drawing, gradient.data(), result.data());
    return result;
  }
};

inline bool has_attributes(Mode mode, int32_t blocks) {
  return blocks >= (mode == Mode::kProduct ? 2 : mode == Mode::kSilhouette || mode == Mode::kWeights ? 0 : 1);
}

// The points of a scene, with random attributes. Each image of a mesh sees it from elsewhere.
template <typename T>
std::vector<T> given_points(const Scene& scene, int32_t blocks, Uniform& random) {
  std::vector<T> result;
  for (int64_t m = 0; m < scene.num_meshes(); ++m) {
    for (int64_t image = 0; image < scene.images_per_mesh; ++image) {
      const double shift = static_cast<double>(image) * (scene.step > 0 ? scene.step : 0.1371);
      for (int64_t v = scene.vert_first[size_of(m)]; v < scene.vert_first[size_of(m) + 1]; ++v) {
        const double* place = scene.places.data() + 3 * v;
        for (const double value : {place[0] + shift, place[1] - shift, place[2], place[2]}) result.push_back(static_cast<T>(value));
      }
    }
  }
  for (size_t k = size_of(blocks) * result.size(); k > 0; --k) result.push_back(static_cast<T>(random()));
  result.shrink_to_fit();
  return result;
}

}  // namespace largesteps::renderer

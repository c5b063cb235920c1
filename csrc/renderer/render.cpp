#include "no_contraction.h"

#include "render.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "../threads/parallel.h"
#include "scalar_shading.h"

namespace largesteps::renderer {
namespace {

constexpr int64_t kChunk = 2048;  // vertices or faces that a thread takes at once, a multiple of 8
// torch multiplies matrices of at least this many products by a library, which fuses where the processor can, and smaller ones
// by a loop that does not. To do the same makes points that PyTorch3D's rasteriser would get, to the last bit.
constexpr int64_t kLeastFused = 400;
// Fewer images than this are cut into bands of rows, so that a few threads have something to do.
constexpr int64_t kLeastParts = 2;

// Runs body(chunk, mesh, begin, end) for chunks of the vertices or the faces of all meshes, which are counted from 0.
template <typename Body>
void for_chunks(const Batch& batch, Section first, const Body& body) {
  struct Chunk {
    int64_t mesh, begin, end;
  };
  std::vector<Chunk> chunks;
  for (int64_t m = 0; m < batch.index[kNumMeshes]; ++m) {
    const int64_t end = batch.index[first][m + 1];
    for (int64_t begin = batch.index[first][m]; begin < end; begin += kChunk) {
      chunks.push_back({m, begin, std::min(begin + kChunk, end)});
    }
  }
  parallel_for(static_cast<int64_t>(chunks.size()), batch.num_threads, [&](int64_t k) {
    const Chunk& chunk = chunks[static_cast<size_t>(k)];
    body(k, chunk.mesh, chunk.begin, chunk.end);
  });
}

int64_t num_chunks(const Batch& batch, Section first) {
  int64_t count = 0;
  for (int64_t m = 0; m < batch.index[kNumMeshes]; ++m) {
    count += (batch.index[first][m + 1] - batch.index[first][m] + kChunk - 1) / kChunk;
  }
  return count;
}

template <typename T>
std::vector<T> numbers(int64_t count) {
  return std::vector<T>(static_cast<size_t>(count));
}

// Rows of three in the given order as sorted rows of four.
template <typename T>
std::vector<T> sorted_rows(const Batch& batch, const T* given) {
  auto result = numbers<T>(4 * batch.index[kNumVerts]);
  const int32_t* order = batch.index[kVertOrder];
  for_chunks(batch, kVertFirst, [&](int64_t, int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* from = given + 3 * int64_t{order[i]};
      T* to = result.data() + 4 * i;
      to[0] = from[0], to[1] = from[1], to[2] = from[2], to[3] = 0;
    }
  });
  return result;
}

// For each mesh what makes the largest extent of its faces 32.
template <typename T>
std::vector<T> normal_scales(const Batch& batch, const T* verts) {
  auto result = numbers<T>(batch.index[kNumMeshes]);
  const int32_t* corner_first = batch.index[kCornerFirst];
  parallel_for(batch.index[kNumMeshes], batch.num_threads, [&](int64_t m) {
    T low[3], high[3], longest = 0;
    std::fill(low, low + 3, std::numeric_limits<T>::max()), std::fill(high, high + 3, std::numeric_limits<T>::lowest());
    for (int64_t i = batch.index[kVertFirst][m]; i < batch.index[kVertFirst][m + 1]; ++i) {
      if (corner_first[i] == corner_first[i + 1]) continue;
      for (int k = 0; k < 3; ++k) low[k] = std::min(low[k], verts[4 * i + k]), high[k] = std::max(high[k], verts[4 * i + k]);
    }
    for (int k = 0; k < 3; ++k) longest = std::max(longest, high[k] - low[k]);
    const T scale = 32 / longest;
    result[static_cast<size_t>(m)] = longest > 0 && std::isfinite(longest) && std::isfinite(scale) ? scale : T(1);
  });
  return result;
}

template <typename T>
Surface<T> surface_of(const Batch& batch, const T* verts, T scale) {
  return {verts, batch.index[kCorners], batch.index[kCornerFirst], batch.index[kVertCorners], scale};
}

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

template <typename T>
Pixels<T> pixels_of(const Frame<T>& frame, const Drawing<T>& d, int64_t image) {
  Pixels<T> pixels = {d.faces + image * frame.height * frame.pitch, d.mode, d.channels, {}};
  std::copy(d.background, d.background + 4, pixels.background);
  return pixels;
}

std::pair<const Crossing*, const Crossing*> crossings_of(const Crossing* crossings, int64_t count, int64_t image) {
  auto earlier = [](const Crossing& c, int64_t n) { return c.image < n; };
  const Crossing* begin = std::lower_bound(crossings, crossings + count, image, earlier);
  return {begin, std::lower_bound(begin, crossings + count, image + 1, earlier)};
}

// Runs body(begin, end) for the numbers of an image's points among those of the batch: once for each plane.
template <typename Body>
void for_planes(const Batch& batch, int32_t blocks, int64_t image, const Body& body) {
  const int64_t first = 4 * batch.first_row(image), count = 4 * batch.num_verts(batch.mesh_of(image));
  for (int64_t k = 0; k <= blocks; ++k) body(k * batch.plane() + first, k * batch.plane() + first + count);
}

// Sets the gradients of an image's points to zero.
template <typename T>
void clear_points(const Batch& batch, int32_t blocks, int64_t image, T* to) {
  for_planes(batch, blocks, image, [&](int64_t begin, int64_t end) { std::fill(to + begin, to + end, T(0)); });
}

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

constexpr int32_t kMostChannels = 1024;

}  // namespace

template <typename T>
void make_points(const Batch& batch, const Vertices<T>& given, T* points, T* normals) {
  const Kernels<T>& kernel = kernels().of<T>();
  const std::vector<T> verts = sorted_rows(batch, given.verts);
  int64_t most_verts = 0;
  for (int64_t m = 0; m < batch.index[kNumMeshes]; ++m) most_verts = std::max(most_verts, batch.num_verts(m));
  const bool fuses = 16 * most_verts >= kLeastFused;
  std::vector<T> colors;
  if (given.colors) colors = sorted_rows(batch, given.colors);
  if (given.light) {
    const std::vector<T> scales = normal_scales(batch, verts.data());
    auto face_normals = numbers<T>(4 * batch.index[kNumFaces]);
    for_chunks(batch, kFaceFirst, [&](int64_t, int64_t mesh, int64_t begin, int64_t end) {
      kernel.face_normals(surface_of(batch, verts.data(), scales[static_cast<size_t>(mesh)]), begin, end, face_normals.data());
    });
    for_chunks(batch, kVertFirst, [&](int64_t, int64_t, int64_t begin, int64_t end) {
      kernel.vertex_normals(surface_of(batch, verts.data(), T(1)), face_normals.data(), begin, end, normals);
    });
  }
  for_chunks(batch, kVertFirst, [&](int64_t, int64_t mesh, int64_t begin, int64_t end) {
    const int64_t first = batch.index[kVertFirst][mesh], each = batch.images_per_mesh();
    for (int64_t image = mesh * each; image < (mesh + 1) * each; ++image) {
      kernel.points(verts.data() + 4 * first, given.light ? normals + 4 * first : nullptr,
                    given.colors ? colors.data() + 4 * first : nullptr, given.view + 16 * image, given.projection + 16 * image,
                    given.light ? given.light + (given.light_per_image ? 27 * image : 0) : nullptr, fuses, begin - first, end - first,
                    points + 4 * batch.first_row(image), batch.plane());
    }
  });
}

template <typename T>
void make_points_backward(const Batch& batch, const Vertices<T>& given, const T* points, const T* normals, const T* gradient,
                          const VertexGradients<T>& to) {
  const Kernels<T>& kernel = kernels().of<T>();
  const std::vector<T> verts = sorted_rows(batch, given.verts);
  const int64_t num_verts = batch.index[kNumVerts], each = batch.images_per_mesh();
  const bool cameras = to.view || to.projection;
  auto to_verts = numbers<T>(4 * num_verts), sums = numbers<T>(given.light ? 4 * num_verts : 0);
  auto to_colors = numbers<T>(to.colors ? 4 * num_verts : 0);
  // each chunk adds up its own part, and the parts are added in order
  const int64_t chunks = num_chunks(batch, kVertFirst), light_numbers = given.light_per_image ? 27 * each : 27;
  auto to_cameras = numbers<T>(cameras ? chunks * 32 * each : 0), to_light = numbers<T>(to.light ? chunks * light_numbers : 0);
  std::vector<int64_t> mesh_of_chunk(static_cast<size_t>(chunks));
  for_chunks(batch, kVertFirst, [&](int64_t chunk, int64_t mesh, int64_t begin, int64_t end) {
    const int64_t first = batch.index[kVertFirst][mesh], image = mesh * each, row = 4 * batch.first_row(image);
    mesh_of_chunk[static_cast<size_t>(chunk)] = mesh;
    const PointsBackward<T> arguments = {verts.data() + 4 * first,
                                         given.light ? normals + 4 * first : nullptr,
                                         points + row,
                                         gradient + row,
                                         4 * batch.num_verts(mesh),
                                         batch.plane(),
                                         given.blocks(),
                                         static_cast<int32_t>(each),
                                         given.view + 16 * image,
                                         given.projection + 16 * image,
                                         given.light ? given.light + (given.light_per_image ? 27 * image : 0) : nullptr,
                                         given.light_per_image,
                                         to_verts.data() + 4 * first,
                                         given.light ? sums.data() + 4 * first : nullptr,
                                         to.colors ? to_colors.data() + 4 * first : nullptr,
                                         cameras ? to_cameras.data() + chunk * 32 * each : nullptr,
                                         to.light ? to_light.data() + chunk * light_numbers : nullptr};
    kernel.points_backward(arguments, begin - first, end - first);
  });
  for (T* whole : {to.view, to.projection}) {
    if (whole) std::fill(whole, whole + 16 * batch.num_images, T(0));
  }
  if (to.light) std::fill(to.light, to.light + 27 * (given.light_per_image ? batch.num_images : 1), T(0));
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t image = mesh_of_chunk[static_cast<size_t>(chunk)] * each;
    for (int64_t n = 0; n < (cameras ? each : 0); ++n) {
      const T* from = to_cameras.data() + (chunk * each + n) * 32;
      for (int k = 0; k < 16; ++k) {
        if (to.view) to.view[16 * (image + n) + k] += from[k];
        if (to.projection) to.projection[16 * (image + n) + k] += from[16 + k];
      }
    }
    for (int64_t k = 0; k < (to.light ? light_numbers : 0); ++k) {
      to.light[(given.light_per_image ? 27 * image : 0) + k] += to_light[static_cast<size_t>(chunk * light_numbers + k)];
    }
  }
  if (given.light && to.verts) {
    const std::vector<T> scales = normal_scales(batch, verts.data());
    auto face_gradients = numbers<T>(4 * batch.index[kNumFaces]);
    for_chunks(batch, kFaceFirst, [&](int64_t, int64_t mesh, int64_t begin, int64_t end) {
      kernel.face_normals_backward(surface_of(batch, verts.data(), scales[static_cast<size_t>(mesh)]), sums.data(), begin, end,
                                   face_gradients.data());
    });
    for_chunks(batch, kVertFirst, [&](int64_t, int64_t mesh, int64_t begin, int64_t end) {
      kernel.vertices_backward(surface_of(batch, verts.data(), scales[static_cast<size_t>(mesh)]), face_gradients.data(), begin,
                               end, to_verts.data());
    });
  }
  const int32_t* order = batch.index[kVertOrder];
  for (const auto& [whole, rows] : {std::make_pair(to.verts, &to_verts), std::make_pair(to.colors, &to_colors)}) {
    if (!whole) continue;
    const T* from = rows->data();
    T* to_given = whole;
    for_chunks(batch, kVertFirst, [&](int64_t, int64_t, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) std::copy_n(from + 4 * i, 3, to_given + 3 * int64_t{order[i]});
    });
  }
}

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

namespace {

template <typename T>
T given_at(const Target<T>& target, int64_t pixel, int channels, int c) {
  const int64_t at = pixel * channels + c;
  return target.of_bytes ? static_cast<T>(static_cast<const uint8_t*>(target.pixels)[at]) / T(255)
                         : static_cast<const T*>(target.pixels)[at];
}

template <typename T>
void measure(const Target<T>& target, T d, T& value, T& slope) {
  if (target.kind == Difference::kL1) {
    value = std::abs(d), slope = static_cast<T>((d > 0) - (d < 0));
  } else if (target.kind == Difference::kL2) {
    value = d * d, slope = d + d;
  } else {
    const T size = std::abs(d);
    value = size < target.beta ? T(0.5) * d * (d / target.beta) : size - T(0.5) * target.beta;
    slope = std::max(T(-1), std::min(T(1), d / target.beta));
  }
}

// The differences at the pixels that outlines change, one after the other, and their gradients.
template <typename T>
double compare_blended(const Batch& batch, const Frame<T>& frame, const Drawing<T>& d, const Points<T>& points,
                       const Pixels<T>& pixels, const Target<T>& target, const Crossing* begin, const Crossing* end, T* to) {
  double total = 0;
  while (begin != end) {
    const Crossing* next = begin;
    while (next != end && next->target() == begin->target()) ++next;
    const int64_t pixel = begin->target();
    const PixelShader<T> base(frame, d.perspective, points, pixels, begin->target());
    T own[4], color[4], other[4], gradient[4];
    base.color(own);
    std::copy(own, own + d.channels, color);
    T rest = 1;
    for (const Crossing* c = begin; c != next; ++c) {
      const T weight = cut_of(frame, batch.index, points, *c).blend();
      PixelShader<T>(frame, d.perspective, points, pixels, c->source()).color(other);
      for (int k = 0; k < d.channels; ++k) color[k] += weight * (other[k] - own[k]);
      rest -= weight;
    }
    const T weight = target.pixel_weights ? target.pixel_weights[pixel] : T(1);
    T loss = 0;
    for (int k = 0; k < d.channels; ++k) {
      T value, slope;
      measure(target, color[k] - given_at(target, pixel, d.channels, k), value, slope);
      loss += target.channel_weights[k] * value, gradient[k] = target.channel_weights[k] * weight * slope;
    }
    total += static_cast<double>(weight * loss);
    if (to) {
      base.backward(gradient, rest, to);
      for (const Crossing* c = begin; c != next; ++c) {
        const Cut<T> cut = cut_of(frame, batch.index, points, *c);
        const PixelShader<T> source(frame, d.perspective, points, pixels, c->source());
        source.color(other);
        T to_blend = 0;
        for (int k = 0; k < d.channels; ++k) to_blend += gradient[k] * (other[k] - own[k]);
        cut_backward(frame, *c, cut, to_blend, to);
        source.backward(gradient, cut.blend(), to);
      }
    }
    begin = next;
  }
  return total;
}

}  // namespace

template <typename T>
void compare(const Batch& batch, const Frame<T>& frame, const Drawing<T>& d, const std::vector<Target<T>>& targets, T* losses,
             T* to_points) {
  const Kernels<T>& kernel = kernels().of<T>();
  const Bands bands(batch.num_images, frame.height);
  std::optional<PartialGradients<T>> partial;
  if (to_points) partial.emplace(batch, bands, d.blocks, to_points);
  // the mean: in the weights, so that the gradient has it too
  const T scale = 1 / (static_cast<T>(frame.height) * static_cast<T>(frame.width) * static_cast<T>(d.channels));
  std::vector<Target<T>> scaled = targets;
  for (Target<T>& target : scaled) {
    for (T& weight : target.channel_weights) weight *= scale;
  }
  std::vector<std::vector<uint8_t>> marked(static_cast<size_t>(batch.num_images));
  parallel_for(batch.num_images, batch.num_threads, [&](int64_t n) {
    const auto [begin, end] = crossings_of(d.crossings, d.num_crossings, n);
    if (begin == end) return;
    marked[static_cast<size_t>(n)].assign(static_cast<size_t>(int64_t{frame.height} * frame.width), 0);
    for (const Crossing* c = begin; c != end; ++c) marked[static_cast<size_t>(n)][static_cast<size_t>(c->target())] = 1;
  });
  auto totals = numbers<double>(bands.num_parts);
  parallel_for(bands.num_parts, batch.num_threads, [&](int64_t part) {
    const int64_t image = bands.image(part);
    const auto& mark = marked[static_cast<size_t>(image)];
    totals[static_cast<size_t>(part)] = kernel.compare(
        frame, d.perspective, batch.points(d.points, image), pixels_of(frame, d, image), scaled[static_cast<size_t>(image)],
        mark.empty() ? nullptr : mark.data(), bands.first_row(part), bands.end_row(part), partial ? partial->start(part) : nullptr);
  });
  if (partial) partial->sum();
  parallel_for(batch.num_images, batch.num_threads, [&](int64_t n) {
    const auto [begin, end] = crossings_of(d.crossings, d.num_crossings, n);
    double total = compare_blended(batch, frame, d, batch.points(d.points, n), pixels_of(frame, d, n),
                                   scaled[static_cast<size_t>(n)], begin, end, partial ? partial->of(n) : nullptr);
    for (int64_t k = 0; k < bands.per_image; ++k) total += totals[static_cast<size_t>(n * bands.per_image + k)];
    losses[n] = static_cast<T>(total);
  });
}

template <typename T>
void scale_gradient(const Batch& batch, int32_t blocks, const T* scales, const T* gradient, T* to_points) {
  parallel_for(batch.num_images, batch.num_threads, [&](int64_t n) {
    for_planes(batch, blocks, n, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) to_points[k] = scales[n] * gradient[k];
    });
  });
}

#define LARGESTEPS_INSTANTIATE(T)                                                                                              \
  template void make_points(const Batch&, const Vertices<T>&, T*, T*);                                                         \
  template void make_points_backward(const Batch&, const Vertices<T>&, const T*, const T*, const T*, const VertexGradients<T>&); \
  template std::vector<Crossing> rasterize(const Batch&, const Frame<T>&, const Camera<T>&, const T*, bool, T*, int32_t*); \
  template void draw(const Batch&, const Frame<T>&, const Drawing<T>&, T*);                                                    \
  template void blend(const Batch&, const Frame<T>&, const Drawing<T>&, T*);                                                   \
  template void draw_backward(const Batch&, const Frame<T>&, const Drawing<T>&, const T*, T*);                                 \
  template void blend_backward(const Batch&, const Frame<T>&, const Drawing<T>&, const T*, T*, T*);                            \
  template void compare(const Batch&, const Frame<T>&, const Drawing<T>&, const std::vector<Target<T>>&, T*, T*);                 \
  template void scale_gradient(const Batch&, int32_t, const T*, const T*, T*);
LARGESTEPS_INSTANTIATE(float)
LARGESTEPS_INSTANTIATE(double)
#undef LARGESTEPS_INSTANTIATE

}  // namespace largesteps::renderer

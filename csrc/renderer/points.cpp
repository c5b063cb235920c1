#include "no_contraction.h"

#include "points.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "../threads/parallel.h"

namespace largesteps::renderer {
namespace {

constexpr int64_t kChunk = 2048;  // vertices or faces that a thread takes at once, a multiple of 8
// torch multiplies matrices of at least this many products by a library, which fuses where the processor can, and smaller ones
// by a loop that does not. To do the same makes points that PyTorch3D's rasteriser would get, to the last bit.
constexpr int64_t kLeastFused = 400;

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

#define LARGESTEPS_INSTANTIATE(T) \
  template void make_points(const Batch&, const Vertices<T>&, T*, T*); \
  template void make_points_backward(const Batch&, const Vertices<T>&, const T*, const T*, const T*, \
                                     const VertexGradients<T>&);
LARGESTEPS_INSTANTIATE(float)
LARGESTEPS_INSTANTIATE(double)
#undef LARGESTEPS_INSTANTIATE

}  // namespace largesteps::renderer

// The operators of the renderer that work on vertices: mesh_index, the faces and their neighbours, once for each topology; and
// render_points, vertices, cameras, light and colours -> the points of each image. They check arguments and convert tensors to
// pointers; ../renderer computes.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "../renderer/points.h"
#include "render_checks.h"

namespace {

using namespace largesteps::bindings;
using largesteps::renderer::VertexGradients;
using largesteps::renderer::Vertices;

Tensor mesh_index(const Tensor& faces, const Tensor& vert_first, const Tensor& face_first) {
  check_array(faces, "faces", ScalarType::Long, "int64", 2);
  check_array(vert_first, "vert_first", ScalarType::Long, "int64", 1);
  check_array(face_first, "face_first", ScalarType::Long, "int64", 1);
  check(vert_first.numel() >= 1 && face_first.numel() == vert_first.numel(), "face_first",
        "as many numbers as vert_first, at least one");
  const int64_t num_meshes = vert_first.numel() - 1;
  const auto *first_vert = data_of<int64_t>(vert_first), *first_face = data_of<int64_t>(face_first);
  check(faces.size(1) == 3 && first_face[num_meshes] == faces.size(0), "faces", "the shape (", first_face[num_meshes], ", 3)");
  for (const auto* first : {first_vert, first_face}) {
    check(first[0] == 0 && std::is_sorted(first, first + num_meshes + 1), first == first_vert ? "vert_first" : "face_first",
          "numbers that begin with 0 and do not fall");
  }
  std::vector<int32_t> buffer;
  guarded([&] {
    buffer = renderer::make_mesh_index(data_of<int64_t>(faces), num_meshes, first_vert, first_face);
  });
  Tensor index = empty_on_cpu({static_cast<int64_t>(buffer.size())}, ScalarType::Int);
  std::copy(buffer.begin(), buffer.end(), data_of<int32_t>(index));
  return index;
}

void check_vertices(const Batch& batch, const Tensor& verts, const Tensor& view, const Tensor& projection,
                    const std::optional<Tensor>& light, const std::optional<Tensor>& colors) {
  const int64_t num_verts = batch.index[renderer::kNumVerts], num_images = batch.num_images;
  check_floats(verts, "verts", verts), check_floats(view, "view", verts), check_floats(projection, "projection", verts);
  check(verts.dim() == 2 && verts.size(0) == num_verts && verts.size(1) == 3, "verts", "the shape (", num_verts, ", 3)");
  check(view.dim() == 3 && view.size(1) == 4 && view.size(2) == 4, "view", "the shape (images, 4, 4)");
  check(projection.dim() == 3 && projection.size(0) == num_images && projection.size(1) == 4 && projection.size(2) == 4,
        "projection", "the shape (", num_images, ", 4, 4)");
  if (light) {
    check_floats(*light, "light", verts);
    check(light->dim() == 3 && (light->size(0) == 1 || light->size(0) == num_images) && light->size(1) == 9 && light->size(2) == 3,
          "light", "the shape (1, 9, 3) or (", num_images, ", 9, 3)");
  }
  if (colors) {
    check_floats(*colors, "colors", verts);
    check(light.has_value(), "colors", "a light with them");
    check(colors->dim() == 2 && colors->size(0) == num_verts && colors->size(1) == 3, "colors", "the shape (", num_verts, ", 3)");
  }
}

template <typename T>
Vertices<T> vertices_of(const Tensor& verts, const Tensor& view, const Tensor& projection, const std::optional<Tensor>& light,
                        const std::optional<Tensor>& colors) {
  return {data_of<T>(verts), data_of<T>(view),      data_of<T>(projection), data_of<T>(light),
          light && light->size(0) > 1, data_of<T>(colors)};
}

std::tuple<Tensor, Tensor> render_points(const Tensor& verts, const Tensor& view, const Tensor& projection,
                                         const std::optional<Tensor>& light, const std::optional<Tensor>& colors,
                                         const Tensor& index, int64_t num_meshes) {
  const Batch batch = batch_of(index, view.dim() > 0 ? view.size(0) : 0);
  check(num_meshes == batch.index[renderer::kNumMeshes], "num_meshes", "that of the index, ", batch.index[renderer::kNumMeshes]);
  check_vertices(batch, verts, view, projection, light, colors);
  const int64_t planes = light ? (colors ? 3 : 2) : 1;
  Tensor points = empty_on_cpu({planes, batch.num_rows(), 4}, verts.scalar_type());
  Tensor normals = empty_on_cpu({light ? verts.size(0) : 0, 4}, verts.scalar_type());
  with_type(verts, "verts", [&](auto number) {
    using T = decltype(number);
    renderer::make_points(batch, vertices_of<T>(verts, view, projection, light, colors), data_of<T>(points), data_of<T>(normals));
  });
  return {points, normals};
}

// needed: bits for verts, view, projection, light, colors. The others' gradients are empty tensors.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> render_points_backward(
    const Tensor& gradient, const Tensor& verts, const Tensor& view, const Tensor& projection, const std::optional<Tensor>& light,
    const std::optional<Tensor>& colors, const Tensor& index, const Tensor& points, const Tensor& normals, int64_t needed) {
  const Batch batch = batch_of(index, view.dim() > 0 ? view.size(0) : 0);
  check_vertices(batch, verts, view, projection, light, colors);
  const int32_t blocks = blocks_of(batch, points);
  check_floats(points, "points", verts);
  check(blocks == (light ? (colors ? 2 : 1) : 0), "points", "those that render_points made");
  const Tensor given = gradient.is_contiguous() ? gradient : torch::stable::contiguous(gradient);
  check_floats(given, "gradient", verts);
  check(given.dim() == 3 && given.size(0) == points.size(0) && given.size(1) == points.size(1) && given.size(2) == 4, "gradient",
        "the shape of the points");
  check_floats(normals, "normals", verts);
  check(!light || (normals.dim() == 2 && normals.size(0) == verts.size(0) && normals.size(1) == 4), "normals",
        "those that render_points made");
  const ScalarType type = verts.scalar_type();
  auto like = [&](int bit, std::initializer_list<int64_t> sizes) {
    return needed >> bit & 1 ? empty_on_cpu(sizes, type) : empty_on_cpu({0}, type);
  };
  Tensor to_verts = like(0, {verts.size(0), 3}), to_view = like(1, {batch.num_images, 4, 4});
  Tensor to_projection = like(2, {batch.num_images, 4, 4}), to_light = like(3, {light ? light->size(0) : 0, 9, 3});
  Tensor to_colors = like(4, {colors ? verts.size(0) : 0, 3});
  with_type(verts, "verts", [&](auto number) {
    using T = decltype(number);
    auto to = [&](int bit, Tensor& tensor) { return needed >> bit & 1 ? data_of<T>(tensor) : nullptr; };
    const VertexGradients<T> gradients = {to(0, to_verts), to(1, to_view), to(2, to_projection), light ? to(3, to_light) : nullptr,
                                          colors ? to(4, to_colors) : nullptr};
    renderer::make_points_backward(batch, vertices_of<T>(verts, view, projection, light, colors), data_of<T>(points),
                                   data_of<T>(normals), data_of<T>(given), gradients);
  });
  return {to_verts, to_view, to_projection, to_light, to_colors};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(pt3d_largesteps, library) {
  library.def("mesh_index(Tensor faces, Tensor vert_first, Tensor face_first) -> Tensor");
  // num_meshes says how many rows the result has, without a look into the index.
  library.def(
      "render_points(Tensor verts, Tensor view, Tensor projection, Tensor? light, Tensor? colors, Tensor index, int num_meshes) "
      "-> (Tensor, Tensor)");
  library.def(
      "render_points_backward(Tensor gradient, Tensor verts, Tensor view, Tensor projection, Tensor? light, Tensor? colors, "
      "Tensor index, Tensor points, Tensor normals, int needed) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(pt3d_largesteps, CPU, library) {
  library.impl("mesh_index", TORCH_BOX(&mesh_index));
  library.impl("render_points", TORCH_BOX(&render_points));
  library.impl("render_points_backward", TORCH_BOX(&render_points_backward));
}

// Tests of the renderer's derivatives against central differences, and of the points of its images; returns non-zero on
// failure.
//
// g++ -std=c++17 -pthread csrc/{threads,renderer}/*.cpp csrc/cpu/instruction_sets.cpp csrc/tests/test_renderer_gradients.cpp
#include "../renderer/no_contraction.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>

#include "check.h"
#include "renderer_case.h"

namespace {

using namespace largesteps;
using namespace largesteps::renderer;

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t k = 0; k < a.size(); ++k) sum += a[k] * b[k];
  return sum;
}

// Whether a gradient is that of a function of the numbers, which are changed and put back.
bool fits(std::vector<double>& numbers, const std::vector<double>& gradient, double tolerance, const std::function<double()>& value) {
  constexpr double kStep = 1e-6;
  double largest = 1, wrong = 0;
  for (size_t k = 0; k < numbers.size(); ++k) {
    const double before = numbers[k];
    numbers[k] = before + kStep;
    const double above = value();
    numbers[k] = before - kStep;
    const double below = value();
    numbers[k] = before;
    largest = std::max(largest, std::abs(gradient[k])), wrong = std::max(wrong, std::abs((above - below) / (2 * kStep) - gradient[k]));
  }
  return gradient.size() == numbers.size() && wrong <= tolerance * largest;
}

// The pictures of a scene as a function of its points.
void check_pictures(const Scene& scene, bool outlined, Mode mode, uint64_t seed) {
  Uniform random(seed);
  const int32_t blocks = mode == Mode::kSilhouette || mode == Mode::kWeights ? 0 : mode == Mode::kProduct ? 2 : 1 + random.below(3);
  Case<double> given(scene, blocks, given_points<double>(scene, blocks, random));
  const Visible<double> visible = given.visible(1, outlined);
  const Drawing<double> drawing = given.drawing(visible, mode);
  const std::vector<double> weights = random_numbers<double>(random, given.num_pixels() * drawing.channels, -1, 1);
  const std::vector<double> gradient = given.image_backward(drawing, weights, 1);
  CHECK(outlined == !visible.crossings.empty());
  CHECK(fits(given.points, gradient, 1e-6, [&] {
    const Visible<double> now = given.visible(1, outlined);
    return dot(given.image(given.drawing(now, mode), 1), weights);
  }));
  if (!outlined) return;
  // and of pictures that are only blended, which are variables too
  std::vector<double> images = random_numbers<double>(random, given.num_pixels() * drawing.channels, 0, 1), to_images = weights, to_points(given.points.size());
  blend_backward(given.batch(1), given.frame, drawing, images.data(), to_images.data(), to_points.data());
  const auto blended = [&] {
    const Visible<double> now = given.visible(1, true);
    std::vector<double> result = images;
    blend(given.batch(1), given.frame, given.drawing(now, mode), result.data());
    return dot(result, weights);
  };
  CHECK(fits(given.points, to_points, 1e-6, blended) && fits(images, to_images, 1e-6, blended));
}

// Faces around a vertex, which cover the whole picture; or one face.
Scene covering_scene(uint64_t seed, int32_t num_faces) {
  Uniform random(seed);
  Scene scene;
  scene.height = 1 + random.below(9), scene.width = 1 + random.below(12);
  scene.perspective = random.chance(2), scene.images_per_mesh = 1 + random.below(2);
  const double turn = 2 * std::acos(-1.0), size = num_faces == 1 ? 60 : 40, shift = random();
  for (int32_t k = 0; k < std::max(num_faces, 3); ++k) {
    const double angle = turn * (k + shift + random(-0.1, 0.1)) / std::max(num_faces, 3);
    scene.add_vert(size * std::cos(angle), size * std::sin(angle), random(1, 2));
  }
  if (num_faces == 1) {
    scene.add_face(0, 1, 2);
  } else {
    scene.add_vert(random(-0.4, 0.4), random(-0.4, 0.4), 1.5);
    for (int32_t k = 0; k < num_faces; ++k) scene.add_face(num_faces, k, (k + 1) % num_faces);
  }
  scene.end_mesh();
  return scene;
}

// A face before the background. The mesh is in order or turned round, or cut by the border of the picture.
Scene outlined_scene(uint64_t seed) {
  Uniform random(seed);
  Scene scene;
  scene.height = 6 + random.below(9), scene.width = 6 + random.below(12);
  scene.perspective = random.chance(2), scene.images_per_mesh = 1 + random.below(2);
  const double turn = 2 * std::acos(-1.0), size = random(0.5, 1.4), shift = random(), direction = random.chance(2) ? 1 : -1;
  for (int k = 0; k < 3; ++k) {
    const double angle = direction * turn * (k + shift + random(-0.2, 0.2)) / 3;
    scene.add_vert(size * std::cos(angle), size * std::sin(angle), random(1, 2));
  }
  scene.add_face(0, 1, 2);
  scene.end_mesh();
  return scene;
}

void check_all_pictures() {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (const Mode mode : {Mode::kSilhouette, Mode::kShaded, Mode::kProduct, Mode::kAttributes, Mode::kWeights}) {
      const std::string number = ", " + std::to_string(static_cast<int>(mode)) + " " + std::to_string(seed);
      current_case = "one face everywhere" + number;
      check_pictures(covering_scene(seed, 1), false, mode, seed);
      current_case = "faces everywhere" + number;
      if (mode != Mode::kWeights) check_pictures(covering_scene(seed, 3 + static_cast<int32_t>(seed % 5)), false, mode, seed);
      current_case = "outline" + number;
      check_pictures(outlined_scene(seed), true, mode, seed);
    }
  }
}

// Meshes and cameras in world space.
template <typename T>
struct World {
  Scene scene;  // only its meshes
  std::vector<int32_t> index;
  std::vector<T> verts, view, projection, light, colors;
  bool light_per_image;

  World(uint64_t seed, int32_t num_verts) {
    Uniform random(seed);
    scene.images_per_mesh = 1 + random.below(3);
    for (int32_t m = 1 + random.below(3); m > 0; --m) {
      const int32_t here = m == 1 ? num_verts : random.below(20);
      for (int32_t v = 0; v < here; ++v) scene.add_vert(random(-1, 1), random(-1, 1), random(-1, 1));
      for (int32_t f = here ? here + random.below(2 * here) : 0; f > 0; --f) {
        // There are faces with a vertex twice, and equal ones; but no opposite ones, whose normals add up to rounding errors.
        int32_t corners[3] = {random.below(here), random.below(here), random.below(here)};
        std::sort(corners, corners + 3);
        scene.add_face(corners[0], corners[1], corners[2]);
      }
      scene.end_mesh();
    }
    index = index_of(scene);
    verts.assign(scene.places.begin(), scene.places.end());
    for (int64_t n = 0; n < scene.num_images(); ++n) {
      for (int k = 0; k < 16; ++k) {
        const bool diagonal = k % 5 == 0;
        view.push_back(static_cast<T>(k % 4 == 3 ? diagonal : random(-0.3, 0.3) + diagonal + (k == 14 ? 4 : 0)));
        projection.push_back(static_cast<T>(random(-0.2, 0.2) + (k == 0 || k == 5 ? 2 : 0) + (k == 11)));
      }
    }
    light_per_image = random.chance(2);
    if (!random.chance(4)) light = random_numbers<T>(random, 27 * (light_per_image ? scene.num_images() : 1), -1, 1);
    if (!light.empty() && random.chance(2)) colors = random_numbers<T>(random, 3 * scene.num_verts(), 0, 1);
  }

  Vertices<T> given() const {
    return {verts.data(), view.data(), projection.data(), light.empty() ? nullptr : light.data(), light_per_image,
            colors.empty() ? nullptr : colors.data()};
  }
  Batch batch(int num_threads) const { return {{index.data()}, scene.num_images(), num_threads}; }

  int64_t num_numbers() const { return (1 + given().blocks()) * batch(1).plane(); }  // of the points

  struct Points {
    std::vector<T> points, normals;
  };
  Points points(int num_threads) const {
    const Batch of = batch(num_threads);
    Points result = {unwritten<T>(num_numbers()), unwritten<T>(light.empty() ? 0 : 4 * scene.num_verts())};
    make_points(of, given(), result.points.data(), result.normals.data());
    return result;
  }
  std::vector<std::vector<T>> backward(const Points& made, const std::vector<T>& gradient, int num_threads) const {
    std::vector<std::vector<T>> to;
    for (const std::vector<T>* numbers : {&verts, &view, &projection, &light, &colors}) to.push_back(unwritten<T>(static_cast<int64_t>(numbers->size())));
    const VertexGradients<T> all = {to[0].data(), to[1].data(), to[2].data(), light.empty() ? nullptr : to[3].data(),
                                    colors.empty() ? nullptr : to[4].data()};
    make_points_backward(batch(num_threads), given(), made.points.data(), made.normals.data(), gradient.data(), all);
    for (size_t k = 0; k < to.size(); ++k) {  // each alone is the same
      VertexGradients<T> one = {};
      std::vector<T> alone = unwritten<T>(static_cast<int64_t>(to[k].size()));
      T* const pointer = to[k].empty() ? nullptr : alone.data();
      (k == 0 ? one.verts : k == 1 ? one.view : k == 2 ? one.projection : k == 3 ? one.light : one.colors) = pointer;
      make_points_backward(batch(num_threads), given(), made.points.data(), made.normals.data(), gradient.data(), one);
      CHECK(alone == to[k]);
    }
    return to;
  }
  // Of the sum of the points, which no w and no depth of NDC have a part in.
  std::vector<T> weights(uint64_t seed) const {
    Uniform random(seed);
    std::vector<T> result = random_numbers<T>(random, num_numbers(), -1, 1);
    for (size_t k = 3; k < size_of(batch(1).plane()); k += 4) result[k] = 0;
    return result;
  }
};

// Row vector times a matrix, of which the last coordinate is 1.
std::vector<double> transformed(double x, double y, double z, const double* matrix) {
  std::vector<double> result;
  for (int c = 0; c < 4; ++c) result.push_back(x * matrix[c] + y * matrix[4 + c] + z * matrix[8 + c] + matrix[12 + c]);
  return result;
}

// The points in the plainest way.
bool are_right(const World<double>& world, const std::vector<double>& points) {
  const Scene& scene = world.scene;
  const Batch batch = world.batch(1);
  std::vector<double> normals(size_of(3 * scene.num_verts()), 0.0);
  for (size_t f = 0; f < scene.faces.size(); f += 3) {
    const double *a = world.verts.data() + 3 * scene.faces[f], *b = world.verts.data() + 3 * scene.faces[f + 1], *c = world.verts.data() + 3 * scene.faces[f + 2];
    for (size_t k = 0; k < 3; ++k) {
      const size_t u = (k + 1) % 3, v = (k + 2) % 3;
      const double normal = (b[u] - a[u]) * (c[v] - a[v]) - (b[v] - a[v]) * (c[u] - a[u]);
      for (size_t corner = 0; corner < 3; ++corner) normals[3 * size_of(scene.faces[f + corner]) + k] += normal;
    }
  }
  double wrong = 0;
  for (int64_t image = 0; image < scene.num_images(); ++image) {
    const int64_t mesh = batch.mesh_of(image), first = scene.vert_first[size_of(mesh)];
    for (int64_t row = 0; row < batch.num_verts(mesh); ++row) {
      const int64_t vert = batch.index[kVertOrder][first + row];
      const double* at = world.verts.data() + 3 * vert;
      const double* point = points.data() + 4 * (batch.first_row(image) + row);
      const std::vector<double> seen = transformed(at[0], at[1], at[2], world.view.data() + 16 * image);
      const std::vector<double> clip = transformed(seen[0], seen[1], seen[2], world.projection.data() + 16 * image);
      std::vector<double> expected = {clip[0] / clip[3], clip[1] / clip[3], seen[2], clip[3]};
      if (!world.light.empty()) {
        const double *n = normals.data() + 3 * vert, length = std::sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]);
        const double scale = length > 0 ? 1 / length : 1, x = n[0] * scale, y = n[1] * scale, z = n[2] * scale;
        const double basis[9] = {1, y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y};
        const double* light = world.light.data() + (world.light_per_image ? 27 * image : 0);
        for (int c = 0; c < 4; ++c) {
          expected.push_back(0);
          for (int k = 0; c < 3 && k < 9; ++k) expected.back() += basis[k] * light[3 * k + c];
        }
      }
      for (int c = 0; c < 4 && !world.colors.empty(); ++c) expected.push_back(c < 3 ? world.colors[size_of(3 * vert + c)] : 0);
      for (size_t k = 0; k < expected.size(); ++k) {
        wrong = std::max(wrong, std::abs(point[k / 4 * size_of(batch.plane()) + k % 4] - expected[k]));
      }
    }
  }
  return wrong < 1e-11;
}

// Numbers compare equal where bits do: there is no NaN among them, and a zero's sign makes no difference.
template <typename T>
void check_threads(const World<T>& world, uint64_t seed) {
  const auto made = world.points(1);
  const std::vector<T> weights = world.weights(seed);
  const auto gradients = world.backward(made, weights, 1);
  for (const int num_threads : {2, 3}) {
    const auto again = world.points(num_threads);
    CHECK(again.points == made.points && again.normals == made.normals);
    CHECK(world.backward(again, weights, num_threads) == gradients);
  }
}

void check_points() {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    current_case = "points " + std::to_string(seed);
    World<double> world(seed, 4 + static_cast<int32_t>(seed % 30));
    const auto made = world.points(1);
    const std::vector<double> weights = world.weights(seed);
    const auto gradients = world.backward(made, weights, 1);
    CHECK(are_right(world, made.points));
    std::vector<double>* const variables[5] = {&world.verts, &world.view, &world.projection, &world.light, &world.colors};
    for (size_t k = 0; k < 5; ++k) {
      if (k != 3 || !world.light.empty()) {
        CHECK(fits(*variables[k], gradients[k], 1e-5, [&] { return dot(world.points(1).points, weights); }));
      }
    }
    check_threads(world, seed);
    check_threads(World<float>(seed, 4 + static_cast<int32_t>(seed % 30)), seed);
  }
  for (const int32_t num_verts : {2047, 2048, 2049, 9000}) {  // more than one thread takes at once
    current_case = std::to_string(num_verts) + " vertices";
    const World<double> world(static_cast<uint64_t>(num_verts), num_verts);
    CHECK(are_right(world, world.points(1).points));
    check_threads(world, 1);
    check_threads(World<float>(static_cast<uint64_t>(num_verts), num_verts), 1);
  }
}

}  // namespace

int main() {
  check_all_pictures();
  check_points();
  std::printf(num_failures == 0 ? "test_renderer_gradients: all passed\n" : "test_renderer_gradients: %d failures\n", num_failures);
  return num_failures == 0 ? 0 : 1;
}

// Tests of the renderer's pictures and of what it does with broken meshes; returns non-zero on failure.
//
// g++ -std=c++17 -pthread csrc/{threads,renderer}/*.cpp csrc/cpu/instruction_sets.cpp csrc/tests/test_renderer.cpp
#include "../renderer/no_contraction.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "../renderer/kernels_by_set.h"
#include "check.h"
#include "plain_rasterizer.h"
#include "renderer_case.h"
#include "renderer_targets.h"
#include "same.h"

namespace {

using namespace largesteps;
using namespace largesteps::renderer;

constexpr Mode kModes[] = {Mode::kSilhouette, Mode::kShaded, Mode::kProduct, Mode::kAttributes, Mode::kWeights};
constexpr Difference kDifferences[] = {Difference::kL1, Difference::kL2, Difference::kSmoothL1};

// The faces of the mesh of an image, in the given order.
template <typename T>
std::vector<PlainFace<T>> plain_faces(const Case<T>& given, int64_t image) {
  const Scene& scene = given.scene;
  const auto mesh = size_of(image / scene.images_per_mesh);
  std::vector<PlainFace<T>> result;
  const T* points = given.points.data() + 4 * given.batch(1).first_row(image);
  for (int64_t f = scene.face_first[mesh]; f < scene.face_first[mesh + 1]; ++f) {
    PlainFace<T> face = {{}, static_cast<int32_t>(f)};
    for (size_t k = 0; k < 3; ++k) {
      const T* point = points + 4 * given.row_of_vert[size_of(scene.faces[3 * size_of(f) + k])];
      face.corner[k] = {point[0], point[1], point[2]};
    }
    result.push_back(face);
  }
  return result;
}

template <typename T>
void check_visible(const Case<T>& given, const Visible<T>& visible) {
  const Scene& scene = given.scene;
  const PlainCamera<T> camera = {scene.perspective, scene.clips, scene.culls, static_cast<T>(scene.z_clip)};
  const int32_t* face_order = MeshIndex{given.index.data()}[kFaceOrder];
  for (int64_t image = 0; image < scene.num_images(); ++image) {
    const std::vector<Seen<T>> expected = look(camera, scene.height, scene.width, plain_faces(given, image));
    bool faces_agree = true, depths_agree = true;
    for (int64_t row = 0; row < scene.height; ++row) {
      for (int64_t col = 0; col < given.frame.pitch; ++col) {
        const size_t place = size_of((image * scene.height + row) * given.frame.pitch + col);
        const Seen<T> seen = col < scene.width ? expected[size_of(row * scene.width + col)] : Seen<T>();
        const int32_t face = visible.faces[place];
        faces_agree = faces_agree && seen.face == (face < 0 ? -1 : face_order[face]);
        depths_agree = depths_agree && seen.depth == visible.depth[place];
      }
    }
    CHECK(faces_agree);
    CHECK(depths_agree);
  }
}

// The kernels of every instruction set that this processor has.
std::vector<AllKernels> all_sets() {
  std::vector<AllKernels> sets = {baseline_kernels()};
#if LARGESTEPS_X86
  if (best_instruction_set() != InstructionSet::kBaseline) sets.push_back(avx2_kernels());
  if (best_instruction_set() == InstructionSet::kAvx512) sets.push_back(avx512_kernels());
#endif
  return sets;
}

// What the kernels of a set make of an image.
template <typename T>
std::vector<std::vector<T>> by_kernels(const Kernels<T>& kernel, const Case<T>& given, int64_t image, const Targets<T>& targets,
                                       const std::vector<T>& gradient, Mode mode) {
  const Batch batch = given.batch(1);
  const Points<T> points = batch.points(given.points.data(), image);
  const int height = given.scene.height;
  const int64_t mesh = batch.mesh_of(image), size = given.blocks * batch.plane() + 4 * batch.num_verts(mesh);
  Visible<T> visible;
  visible.depth.assign(size_of(int64_t{height} * given.frame.pitch), std::numeric_limits<T>::infinity());
  visible.faces.assign(visible.depth.size(), -1);
  std::vector<int8_t> sides(size_of(batch.index[kNumFaces]));
  kernel.rasterize(given.frame, given.camera, points, batch.index[kFaceOrder], batch.index[kFaceFirst][mesh],
                   batch.index[kFaceFirst][mesh + 1], 0, height, {visible.depth.data(), visible.faces.data()}, sides.data());
  const Drawing<T> drawing = given.drawing(visible, mode);
  Pixels<T> pixels = {visible.faces.data(), mode, drawing.channels, {}};
  std::copy(drawing.background, drawing.background + 4, pixels.background);
  std::vector<T> drawn = unwritten<T>(int64_t{height} * given.scene.width * drawing.channels);
  kernel.draw(given.frame, drawing.perspective, points, pixels, 0, height, drawn.data());
  std::vector<T> back(size_of(size)), compared_back(size_of(size)), loss = {T(0)};
  kernel.draw_backward(given.frame, drawing.perspective, points, pixels, 0, height, gradient.data(), back.data());
  if (mode <= Mode::kProduct) {
    loss[0] = static_cast<T>(kernel.compare(given.frame, drawing.perspective, points, pixels, targets.each[size_of(image)], nullptr, 0,
                                            height, compared_back.data()));
  }
  return {visible.depth, std::vector<T>(visible.faces.begin(), visible.faces.end()), std::vector<T>(sides.begin(), sides.end()),
          drawn,         back,
          loss,          compared_back};
}

template <typename T>
void check_sets(const Case<T>& given, const Targets<T>& targets, const std::vector<T>& gradient, Mode mode) {
  static const std::vector<AllKernels> sets = all_sets();
  for (int64_t image = 0; image < given.scene.num_images(); ++image) {
    const auto expected = by_kernels(sets[0].template of<T>(), given, image, targets, gradient, mode);
    for (size_t set = 1; set < sets.size(); ++set) {
      const auto result = by_kernels(sets[set].template of<T>(), given, image, targets, gradient, mode);
      for (size_t k = 0; k < expected.size(); ++k) CHECK(same(result[k], expected[k]));
    }
  }
}

// Pictures that something else has drawn.
template <typename T>
void check_blending(const Case<T>& given, const Drawing<T>& drawing, Uniform& random) {
  Drawing<T> others = drawing;
  others.channels = 1 + random.below(5), others.faces = nullptr;
  const std::vector<T> images = random_numbers<T>(random, given.num_pixels() * others.channels, 0, 1);
  const std::vector<T> gradient = random_numbers<T>(random, given.num_pixels() * others.channels, -1, 1);
  std::vector<T> expected, expected_back, expected_to_points;
  for (const int num_threads : {1, 2, 3}) {
    std::vector<T> blended = images, back = gradient, to_points = unwritten<T>(static_cast<int64_t>(given.points.size()));
    blend(given.batch(num_threads), given.frame, others, blended.data());
    blend_backward(given.batch(num_threads), given.frame, others, images.data(), back.data(), to_points.data());
    if (num_threads == 1) expected = blended, expected_back = back, expected_to_points = to_points;
    CHECK(same(blended, expected) && same(back, expected_back) && same(to_points, expected_to_points));
    CHECK(!given.scene.is_finite || (all_finite(blended) && all_finite(back) && all_finite(to_points)));
  }
}

template <typename T>
void check_mode(const Case<T>& given, const Visible<T>& visible, Mode mode, Uniform& random) {
  const Drawing<T> drawing = given.drawing(visible, mode);
  const std::vector<T> image = given.image(drawing, 1), gradient = random_numbers<T>(random, given.num_pixels() * drawing.channels, -1, 1);
  const std::vector<T> back = given.image_backward(drawing, gradient, 1);
  const Targets<T> targets(given, drawing.channels, kDifferences[random.below(3)], random);
  CHECK(!given.scene.is_finite || (all_finite(image) && all_finite(back)));
  for (const int num_threads : {2, 3}) {
    CHECK(same(given.image(drawing, num_threads), image));
    CHECK(same(given.image_backward(drawing, gradient, num_threads), back));
  }
  check_sets(given, targets, gradient, mode);
  check_blending(given, drawing, random);
  if (mode > Mode::kProduct) return;
  const Compared<T> at_once = compared(given, drawing, targets, 1);
  for (const int num_threads : {2, 3}) {
    const Compared<T> again = compared(given, drawing, targets, num_threads);
    CHECK(same(again.losses, at_once.losses) && same(again.to_points, at_once.to_points));
  }
  if (!given.scene.is_finite) return;
  const Compared<T> drawn = drawn_and_compared(given, drawing, targets);
  const double rounding = sizeof(T) == 4 ? 1e-3 : 1e-12;
  CHECK(all_finite(at_once.losses) && all_finite(at_once.to_points));
  CHECK(close(at_once.losses, drawn.losses, rounding));
  CHECK(close(at_once.to_points, drawn.to_points, rounding));
}

// The same scene with its vertices and faces in another order.
struct Reordered {
  Scene scene;
  std::vector<int64_t> vert_of;  // the earlier number of each vertex
  std::vector<int64_t> face_of;

  Reordered(const Scene& given, Uniform& random) : scene(given), vert_of(size_of(given.num_verts())), face_of(size_of(given.num_faces())) {
    std::iota(vert_of.begin(), vert_of.end(), 0), std::iota(face_of.begin(), face_of.end(), 0);
    shuffle(given.vert_first, vert_of, random), shuffle(given.face_first, face_of, random);
    std::vector<int64_t> place_of(vert_of.size());
    for (size_t v = 0; v < vert_of.size(); ++v) {
      place_of[size_of(vert_of[v])] = static_cast<int64_t>(v);
      for (size_t k = 0; k < 3; ++k) scene.places[3 * v + k] = given.places[3 * size_of(vert_of[v]) + k];
    }
    for (size_t f = 0; f < face_of.size(); ++f) {
      for (size_t k = 0; k < 3; ++k) scene.faces[3 * f + k] = place_of[size_of(given.faces[3 * size_of(face_of[f]) + k])];
    }
  }

  // The points of the given scene in the new order.
  template <typename T>
  std::vector<T> points(const std::vector<T>& given) const {
    std::vector<T> result;
    while (result.size() < given.size()) {  // one plane after the other
      const auto plane = given.begin() + static_cast<int64_t>(result.size());
      for (size_t m = 0; m + 1 < scene.vert_first.size(); ++m) {
        const int64_t first = scene.vert_first[m], count = scene.vert_first[m + 1] - first;
        for (int64_t image = 0; image < scene.images_per_mesh; ++image) {
          for (int64_t v = first; v < first + count; ++v) {
            const auto row = plane + 4 * (scene.images_per_mesh * first + image * count + vert_of[size_of(v)] - first);
            result.insert(result.end(), row, row + 4);
          }
        }
      }
    }
    return result;
  }

 private:
  static void shuffle(const std::vector<int64_t>& first, std::vector<int64_t>& numbers, Uniform& random) {
    for (size_t m = 0; m + 1 < first.size(); ++m) {
      for (int64_t k = first[m]; k < first[m + 1]; ++k) {
        std::swap(numbers[size_of(k)], numbers[size_of(first[m] + random.below(static_cast<int32_t>(k - first[m] + 1)))]);
      }
    }
  }
};

std::vector<int64_t> corners_of(const Scene& scene, int64_t face) {
  if (face < 0) return {};
  std::vector<int64_t> corners(scene.faces.begin() + 3 * face, scene.faces.begin() + 3 * face + 3);
  std::sort(corners.begin(), corners.end());
  return corners;
}

void check_order(const Scene& scene, int32_t blocks, Uniform& random) {
  const std::vector<double> given = given_points<double>(scene, blocks, random);
  const Reordered reordered(scene, random);
  const Case<double> one(scene, blocks, given), two(reordered.scene, blocks, reordered.points(given));
  const Visible<double> a = one.visible(1, true), b = two.visible(1, true);
  CHECK(same(a.depth, b.depth));
  if (scene.step > 0) return;  // many faces are equally near
  bool faces_agree = true, corners_agree = true;
  for (size_t k = 0; k < a.faces.size(); ++k) {
    const int64_t face = a.faces[k] < 0 ? -1 : MeshIndex{one.index.data()}[kFaceOrder][a.faces[k]];
    const int64_t other = b.faces[k] < 0 ? -1 : reordered.face_of[size_of(MeshIndex{two.index.data()}[kFaceOrder][b.faces[k]])];
    faces_agree = faces_agree && face == other;
    corners_agree = corners_agree && (face == other || corners_of(scene, face) == corners_of(scene, other));
  }
  CHECK(corners_agree);
  CHECK(a.crossings.size() == b.crossings.size());
  if (!faces_agree) return;  // there are two of the same corners
  for (const Mode mode : kModes) {
    if (has_attributes(mode, blocks)) CHECK(close(one.image(one.drawing(a, mode), 1), two.image(two.drawing(b, mode), 1), 1e-9));
  }
}

// What the bindings are to refuse.
template <typename T>
void check_refusals(const Case<T>& given, const Visible<T>& visible) {
  const auto valid = [](const std::vector<int32_t>& index) { return renderer::looks_valid(index.data(), static_cast<int64_t>(index.size())); };
  CHECK(valid(given.index));
  for (int32_t field = 0; field < renderer::kSectionOffsets + renderer::kNumSections; ++field) {
    if (field > kNumEdges && field < renderer::kSectionOffsets) continue;  // not used
    for (const int32_t change : {-1, 1}) {
      std::vector<int32_t> changed = given.index;
      changed[size_of(field)] += change;
      CHECK(!valid(changed));
    }
  }
  const auto fit = [&](const std::vector<Crossing>& crossings) {
    return crossings_fit(given.batch(1), given.scene.height, given.scene.width, crossings.data(), static_cast<int64_t>(crossings.size()));
  };
  CHECK(fit(visible.crossings));
  if (visible.crossings.empty()) return;
  const int32_t num_pixels = given.scene.height * given.scene.width;
  for (int k = 0; k < 5; ++k) {
    std::vector<Crossing> changed = visible.crossings;
    Crossing& last = changed.back();
    (k == 0 ? last.image : k == 1 ? last.edge : k == 2 ? last.inside : k == 3 ? last.outside : changed[0].image) =
        k == 0 ? static_cast<int32_t>(given.scene.num_images()) : k == 1 ? MeshIndex{given.index.data()}[kNumEdges] : k < 4 ? num_pixels : -1;
    CHECK(!fit(changed));
  }
}

// The gradient of points that are all 1.
template <typename T>
void check_scaling(const Case<T>& given, Uniform& random) {
  const std::vector<T> ones(given.points.size(), T(1)), scales = random_numbers<T>(random, given.scene.num_images(), -1, 1);
  std::vector<T> expected;
  for (int32_t plane = 0; plane <= given.blocks; ++plane) {
    for (int64_t image = 0; image < given.scene.num_images(); ++image) {
      const Batch batch = given.batch(1);
      expected.insert(expected.end(), size_of(4 * batch.num_verts(batch.mesh_of(image))), scales[size_of(image)]);
    }
  }
  for (const int num_threads : {1, 3}) {
    std::vector<T> result = unwritten<T>(static_cast<int64_t>(given.points.size()));
    scale_gradient(given.batch(num_threads), given.blocks, scales.data(), ones.data(), result.data());
    CHECK(same(result, expected));
  }
}

template <typename T>
void check_scene(const Scene& scene, uint64_t seed) {
  current_case = scene.name + (sizeof(T) == 4 ? ", float" : ", double");
  Uniform random(seed + 1000);
  const auto blocks = static_cast<int32_t>(seed / kNumSceneKinds % 4);
  const Case<T> given(scene, blocks, given_points<T>(scene, blocks, random));
  const Visible<T> visible = given.visible(1, true);
  check_visible(given, visible);
  check_refusals(given, visible);
  check_scaling(given, random);
  for (const int num_threads : {2, 3}) CHECK(same(given.visible(num_threads, true), visible));
  const Visible<T> without = given.visible(1, false);
  CHECK(without.crossings.empty() && same(without.depth, visible.depth) && same(without.faces, visible.faces));
  for (const Mode mode : kModes) {
    if (has_attributes(mode, blocks)) check_mode(given, random.chance(4) ? without : visible, mode, random);
  }
}

}  // namespace

// Takes the first and the end of the scenes to test, to look for more than by default or for one.
int main(int num_arguments, char** arguments) {
  const uint64_t begin = num_arguments > 1 ? std::strtoull(arguments[1], nullptr, 10) : 0;
  const uint64_t end = num_arguments > 2 ? std::strtoull(arguments[2], nullptr, 10) : 40 * kNumSceneKinds;
  for (uint64_t seed = begin; seed < end; ++seed) {
    const Scene scene = random_scene(seed);
    check_scene<float>(scene, seed);
    check_scene<double>(scene, seed);
    if (scene.is_finite) {
      current_case = scene.name + ", in another order";
      Uniform random(seed);
      check_order(scene, static_cast<int32_t>(seed % 3), random);
    }
  }
  for (uint64_t seed = 0; seed < (num_arguments > 1 ? 0 : 4); ++seed) {
    check_scene<float>(long_scene(seed), 2 * kNumSceneKinds);
    check_scene<double>(long_scene(seed), kNumSceneKinds);
  }
  std::printf(num_failures == 0 ? "test_renderer: all passed\n" : "test_renderer: %d failures\n", num_failures);
  return num_failures == 0 ? 0 : 1;
}

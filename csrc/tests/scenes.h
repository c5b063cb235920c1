// Random scenes for the tests of the renderer.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "sample_graphs.h"

namespace largesteps {

// Numbers from 0 to 1, or between two others.
class Uniform {
 public:
  explicit Uniform(uint64_t seed) : numbers_(seed) {}
  int32_t below(int32_t bound) { return numbers_.below(bound); }
  bool chance(int32_t one_in) { return below(one_in) == 0; }
  double operator()(double low = 0, double high = 1) { return low + (high - low) * below(1 << 30) / (1 << 30); }

 private:
  Numbers numbers_;
};

// A batch of meshes as each image sees them: x and y in NDC, and depth.
struct Scene {
  std::string name;
  int height = 1, width = 1;
  int64_t images_per_mesh = 1;
  bool perspective = true, clips = false, culls = false;
  double z_clip = 0;
  std::vector<int64_t> faces, vert_first = {0}, face_first = {0};
  std::vector<double> places;  // 3 for each vertex
  double step = 0;             // where not 0, places are multiples of it, so that depths and edges coincide
  bool is_finite = true;

  int64_t num_meshes() const { return static_cast<int64_t>(vert_first.size()) - 1; }
  int64_t num_images() const { return num_meshes() * images_per_mesh; }
  int64_t num_verts() const { return vert_first.back(); }
  int64_t num_faces() const { return face_first.back(); }
  void add_vert(double x, double y, double z) {
    for (const double value : {x, y, z}) places.push_back(value);
  }
  void add_face(int64_t a, int64_t b, int64_t c) {  // numbers within the mesh
    for (const int64_t vert : {a, b, c}) faces.push_back(vert_first.back() + vert);
  }
  void end_mesh() {
    vert_first.push_back(static_cast<int64_t>(places.size() / 3));
    face_first.push_back(static_cast<int64_t>(faces.size() / 3));
  }
};

// A sphere of quadrilaterals, each cut in two; the faces run the same way round.
inline void add_ball(Scene& scene, Uniform& random, int32_t around, int32_t rings) {
  const double turn = 2 * std::acos(-1.0), radius = random(0.2, 1.2), x = random(-0.5, 0.5), y = random(-0.5, 0.5), z = random(1.5, 4);
  const int64_t top = int64_t{around} * rings, bottom = top + 1;
  for (int32_t ring = 0; ring < rings; ++ring) {
    for (int32_t k = 0; k < around; ++k) {
      const double u = turn * (k + 0.3) / around, v = turn / 2 * (ring + 1) / (rings + 1), depth = z + radius * std::cos(v);
      scene.add_vert((x + radius * std::sin(v) * std::cos(u)) / depth * 2, (y + radius * std::sin(v) * std::sin(u)) / depth * 2, depth);
    }
  }
  scene.add_vert(x / (z + radius) * 2, y / (z + radius) * 2, z + radius), scene.add_vert(x / (z - radius) * 2, y / (z - radius) * 2, z - radius);
  for (int32_t k = 0; k < around; ++k) {
    const int64_t next = (k + 1) % around, last = int64_t{around} * (rings - 1);
    scene.add_face(top, next, k), scene.add_face(bottom, last + k, last + next);
    for (int32_t ring = 0; ring + 1 < rings; ++ring) {
      const int64_t row = int64_t{around} * ring;
      scene.add_face(row + k, row + next, row + around + k), scene.add_face(row + next, row + around + next, row + around + k);
    }
  }
}

// Faces without order: each with its own vertices, or of a few that they share.
inline void add_soup(Scene& scene, Uniform& random, int32_t num_faces, double size, double near, double far, bool shared) {
  const int32_t num_shared = 3 + num_faces / 2;
  for (int32_t k = 0; shared && k < num_shared; ++k) scene.add_vert(random(-size, size), random(-size, size), random(near, far));
  for (int32_t f = 0; f < num_faces; ++f) {
    if (shared) {
      const int64_t a = random.below(num_shared), b = random.below(num_shared);
      scene.add_face(a, b, random.chance(10) ? a : random.below(num_shared));  // some have a vertex twice
      if (random.chance(8)) scene.add_face(b, a, random.below(num_shared));    // an edge may get more than two faces
      continue;
    }
    const double x = random(-1.2, 1.2), y = random(-1.2, 1.2);
    for (int k = 0; k < 3; ++k) scene.add_vert(x + random(-size, size), y + random(-size, size), random(near, far));
    scene.add_face(3 * f, 3 * f + 1, 3 * f + 2);
  }
}

// Long faces with nearly no area.
inline void add_slivers(Scene& scene, Uniform& random, int32_t num_faces, double size) {
  for (int32_t f = 0; f < num_faces; ++f) {
    const double x = random(-size, size), y = random(-size, size), u = random(-size, size), v = random(-size, size);
    const double t = random(), off = std::pow(10.0, random(-8, -1));
    scene.add_vert(x, y, random(1, 1.001)), scene.add_vert(u, v, random(1, 1.001));
    scene.add_vert(x + t * (u - x) + off * random(-1, 1), y + t * (v - y) + off * random(-1, 1), random(1, 1.001));
    scene.add_face(3 * f, 3 * f + 1, 3 * f + 2);
  }
}

// Several faces in each other's place, which only their depths and numbers tell apart.
inline void repeat_faces(Scene& scene, Uniform& random, size_t first) {
  const size_t end = scene.faces.size() / 3;
  for (size_t f = first; f < end; ++f) {
    if (!random.chance(3)) continue;
    const size_t turned = static_cast<size_t>(random.below(3));
    for (size_t k = 0; k < 3; ++k) scene.faces.push_back(scene.faces[3 * f + (k + turned) % 3]);
  }
}

constexpr int32_t kNumSceneKinds = 14;

inline Scene random_scene(uint64_t seed) {
  static const char* const kNames[kNumSceneKinds] = {"balls", "soup", "tangle", "shared vertices", "small faces", "huge faces", "cut faces",
                                                     "slivers", "small depths", "layers", "one face", "empty", "ragged", "broken"};
  const auto kind = static_cast<int32_t>(seed % kNumSceneKinds);
  Uniform random(seed);
  Scene scene;
  scene.name = std::string(kNames[kind]) + ", scene " + std::to_string(seed);
  switch (random.below(5)) {
    case 0:
      scene.height = 1, scene.width = 1 + random.below(20);
      break;
    case 1:
      scene.height = 1 + random.below(20), scene.width = random.chance(2) ? 1 : 2;
      break;
    default:
      scene.height = 2 + random.below(22), scene.width = 2 + random.below(26);
  }
  scene.images_per_mesh = 1 + random.below(3);
  scene.perspective = random.chance(2), scene.culls = random.chance(4);
  const int32_t num_meshes = kind == 12 ? 2 + random.below(4) : 1 + random.below(2);
  for (int32_t m = 0; m < num_meshes; ++m) {
    const size_t first = scene.faces.size() / 3;
    switch (kind == 12 ? random.below(12) : kind) {
      case 0:
        add_ball(scene, random, 3 + random.below(8), 1 + random.below(6));
        break;
      case 2:
        scene.step = 0.25;
        add_soup(scene, random, 60, 1, 1, 2.2, random.chance(2));
        repeat_faces(scene, random, first);
        break;
      case 3:
        add_soup(scene, random, 5 + random.below(40), 1.5, 1, 3, true);
        break;
      case 4:
        add_soup(scene, random, 300, 2.0 / scene.width, 1, 3, false);
        break;
      case 5:
        add_soup(scene, random, 6, std::pow(10.0, random(0, 5)), 1, 3, false);
        break;
      case 6:
        scene.clips = true, scene.z_clip = random.chance(3) ? 0.5 : 0.01;
        add_soup(scene, random, 30, 1, -1, 2, random.chance(2));
        for (size_t k = 0; k < scene.places.size(); k += 3) {
          if (random.chance(8)) scene.places[k] *= 1e10, scene.places[k + 1] *= 1e10, scene.places[k + 2] = 0;  // in the camera's plane
        }
        break;
      case 7:
        add_slivers(scene, random, 60, std::pow(10.0, random(0, 1.5)));
        break;
      case 8: {
        const double depth = std::pow(10.0, random(-8, -2));
        add_soup(scene, random, 30, 1, depth, 3 * depth, false);
        break;
      }
      case 9: {  // small faces, which PyTorch3D's small numbers bring nearer
        const double size = 6.0 / std::max(scene.width, 2) * std::pow(10.0, random(-3, 0));
        const double x = 2.0 * (random.below(scene.width) + 0.5) / scene.width - 1, y = 2.0 * (random.below(scene.height) + 0.5) / scene.height - 1;
        const double hx = std::max(1.0, double(scene.width) / scene.height), hy = std::max(1.0, double(scene.height) / scene.width);
        for (int64_t f = 0; f < 60; ++f) {
          const double depth = random(1, 1.001);
          for (int k = 0; k < 3; ++k) scene.add_vert(x * hx + random(-size, size), y * hy + random(-size, size), depth);
          scene.add_face(3 * f, 3 * f + 1, 3 * f + 2);
        }
        break;
      }
      case 10:
        add_soup(scene, random, 1, 2, 1, 3, false);
        break;
      case 11:
        for (int32_t k = random.below(3); k > 0; --k) scene.add_vert(0, 0, 1);
        break;
      case 13: {
        constexpr double kInfinity = std::numeric_limits<double>::infinity();
        const double bad[6] = {std::nan(""), kInfinity, -kInfinity, 1e38, -1e38, 1e30};
        scene.clips = random.chance(2), scene.z_clip = 0.1, scene.is_finite = false;
        add_soup(scene, random, 30, 1, random.chance(2) ? -1 : 0.5, 3, random.chance(2));
        for (double& place : scene.places) place = random.chance(20) ? bad[random.below(6)] : place;
        break;
      }
      default:
        add_soup(scene, random, 5 + random.below(60), std::pow(10.0, random(-1.5, 0.3)), 1, 3, false);
    }
    scene.end_mesh();
  }
  if (scene.step > 0) {
    for (double& place : scene.places) place = scene.step * std::round(place / scene.step);
  }
  return scene;
}

// Of the largest width or height there is.
inline Scene long_scene(uint64_t seed) {
  Uniform random(seed);
  Scene scene;
  scene.name = "long, scene " + std::to_string(seed);
  scene.perspective = random.chance(2);
  const bool wide = random.chance(2);
  const int32_t across = 1 + random.below(3);
  scene.height = wide ? across : 32768, scene.width = wide ? 32768 : across;
  add_soup(scene, random, 12, std::pow(10.0, random(-1, 0)), 1, 3, random.chance(2));
  const double length = 32768.0 / across;  // half of it, in NDC
  for (size_t k = wide ? 0 : 1; k < scene.places.size(); k += 3) scene.places[k] *= length;
  scene.end_mesh();
  return scene;
}

}  // namespace largesteps

#include "mesh_index.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

namespace largesteps::renderer {
namespace {

// Vertices of a patch. Its points fill a part of a core's fastest memory.
constexpr int64_t kPatch = 256;

// The vertices [begin, end) patch by patch, each grown from face to face, and each beginning beside an earlier one. So neighbours
// on the surface are neighbours in memory. The order follows from the faces [first, last) alone: a run that is resumed adds up in the
// order of the run that was interrupted.
class PatchOrder {
 public:
  PatchOrder(const int64_t* faces, int64_t first, int64_t last, int64_t begin, int64_t end)
      : faces_(faces), begin_(begin), face_first_(static_cast<size_t>(end - begin + 1), 0), placed_(static_cast<size_t>(end - begin)),
        seen_(static_cast<size_t>(last - first)), first_(first) {
    for (int64_t k = 3 * first; k < 3 * last; ++k) ++face_first_[of(faces[k]) + 1];
    std::partial_sum(face_first_.begin(), face_first_.end(), face_first_.begin());
    vert_faces_.resize(static_cast<size_t>(3 * (last - first)));
    std::vector<int64_t> next(face_first_.begin(), face_first_.end() - 1);
    for (int64_t k = 3 * first; k < 3 * last; ++k) vert_faces_[static_cast<size_t>(next[of(faces[k])]++)] = k / 3;
  }

  void write(int32_t* order) {
    order_ = order;
    std::vector<int64_t> seeds;
    for (int64_t f = first_; f < first_ + static_cast<int64_t>(seen_.size()); ++f) {
      seeds.assign(1, f);
      for (size_t k = 0; k < seeds.size(); ++k) grow(seeds[k], seeds);
    }
    for (size_t v = 0; v < placed_.size(); ++v) place(static_cast<int64_t>(v) + begin_);  // those of no face
  }

 private:
  size_t of(int64_t vertex) const { return static_cast<size_t>(vertex - begin_); }

  bool place(int64_t vertex) {
    if (placed_[of(vertex)]) return false;
    placed_[of(vertex)] = true;
    *order_++ = static_cast<int32_t>(vertex);
    return true;
  }

  // A patch from a face on; the faces on its rim become seeds.
  void grow(int64_t seed, std::vector<int64_t>& seeds) {
    front_.assign(1, seed);
    int64_t size = 0;
    size_t k = 0;
    for (; k < front_.size() && size < kPatch; ++k) {
      const int64_t f = front_[k];
      if (seen_[static_cast<size_t>(f - first_)]) continue;
      seen_[static_cast<size_t>(f - first_)] = true;
      for (int c = 0; c < 3; ++c) {
        const int64_t vertex = faces_[3 * f + c];
        if (!place(vertex)) continue;
        ++size;
        for (int64_t i = face_first_[of(vertex)]; i < face_first_[of(vertex) + 1]; ++i) {
          const int64_t neighbour = vert_faces_[static_cast<size_t>(i)];
          if (!seen_[static_cast<size_t>(neighbour - first_)]) front_.push_back(neighbour);
        }
      }
    }
    seeds.insert(seeds.end(), front_.begin() + static_cast<std::ptrdiff_t>(k), front_.end());
  }

  const int64_t* faces_;
  int64_t begin_;
  std::vector<int64_t> face_first_, vert_faces_, front_;
  std::vector<bool> placed_, seen_;
  int64_t first_;
  int32_t* order_ = nullptr;
};

struct HalfEdge {
  int32_t low, high;  // sorted vertices
  int32_t face;       // 2 * face + whether it runs from the vertex with the lower given number
};

class Builder {
 public:
  Builder(const int64_t* faces, int64_t num_meshes, const int64_t* vert_first, const int64_t* face_first)
      : num_meshes_(num_meshes), num_verts_(vert_first[num_meshes]), num_faces_(face_first[num_meshes]) {
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
    // 12 numbers a face in the edges, 8 in the rest; and 16 a vertex are the most numbers of an image's points
    if (num_meshes_ > kMost / 128) throw std::invalid_argument("meshes: expected at most " + std::to_string(kMost / 128) + " in a batch");
    if (num_verts_ > kMost / 16 || num_faces_ > kMost / 24) {
      throw std::invalid_argument("meshes: expected at most " + std::to_string(kMost / 16) + " vertices and " +
                                  std::to_string(kMost / 24) + " faces in a batch, got " + std::to_string(num_verts_) + " and " +
                                  std::to_string(num_faces_));
    }
    vert_order_.resize(size(num_verts_)), sorted_.resize(size(num_verts_)), face_order_.resize(size(num_faces_));
    corners_.assign(size(4 * num_faces_), 0);
    edge_first_.push_back(0);
    for (int64_t m = 0; m < num_meshes; ++m) {
      check_faces(faces, face_first[m], face_first[m + 1], vert_first[m], vert_first[m + 1]);
      PatchOrder(faces, face_first[m], face_first[m + 1], vert_first[m], vert_first[m + 1]).write(vert_order_.data() + vert_first[m]);
      for (int64_t v = vert_first[m]; v < vert_first[m + 1]; ++v) sorted_[size(vert_order_[size(v)])] = static_cast<int32_t>(v);
      sort_faces(faces, face_first[m], face_first[m + 1]);
      find_edges(face_first[m], face_first[m + 1]);
      edge_first_.push_back(static_cast<int32_t>(edge_ends_.size() / 2));
    }
    list_corners();
    vert_first_.assign(vert_first, vert_first + num_meshes + 1);
    face_first_.assign(face_first, face_first + num_meshes + 1);
  }

  std::vector<int32_t> buffer() const {
    const std::vector<int32_t>* sections[kNumSections] = {&vert_first_, &face_first_, &edge_first_, &vert_order_,   &face_order_,
                                                          &corners_,    &edge_ends_, &edge_faces_,      &more_faces_, &corner_first_, &vert_corners_};
    std::vector<int32_t> result(kHeaderSize, 0);
    for (int k = 0; k < kNumSections; ++k) {
      result[size(kSectionOffsets + k)] = static_cast<int32_t>(result.size());
      result.insert(result.end(), sections[k]->begin(), sections[k]->end());
    }
    result[kMagicNumber] = kMagic, result[kTotalSize] = static_cast<int32_t>(result.size());
    result[kNumMeshes] = static_cast<int32_t>(num_meshes_), result[kNumVerts] = static_cast<int32_t>(num_verts_);
    result[kNumFaces] = static_cast<int32_t>(num_faces_), result[kNumEdges] = static_cast<int32_t>(edge_ends_.size() / 2);
    return result;
  }

 private:
  static size_t size(int64_t n) { return static_cast<size_t>(n); }

  static void check_faces(const int64_t* faces, int64_t begin, int64_t end, int64_t first_vert, int64_t end_vert) {
    for (int64_t k = 3 * begin; k < 3 * end; ++k) {
      if (faces[k] >= first_vert && faces[k] < end_vert) continue;
      throw std::invalid_argument("meshes: expected faces of vertices from " + std::to_string(first_vert) + " to " +
                                  std::to_string(end_vert - 1) + ", got " + std::to_string(faces[k]) + " in face " +
                                  std::to_string(k / 3) + " of the batch");
    }
  }

  // By the place of their first vertex.
  void sort_faces(const int64_t* faces, int64_t begin, int64_t end) {
    std::vector<uint64_t> keys(size(end - begin));
    for (int64_t f = begin; f < end; ++f) {
      int32_t lowest = std::numeric_limits<int32_t>::max();
      for (int k = 0; k < 3; ++k) lowest = std::min(lowest, sorted_[size(faces[3 * f + k])]);
      keys[size(f - begin)] = uint64_t(lowest) << 32 | static_cast<uint32_t>(f);
    }
    std::sort(keys.begin(), keys.end());
    for (size_t i = 0; i < keys.size(); ++i) {
      const size_t to = size(begin) + i;
      const auto f = static_cast<int64_t>(keys[i] & 0xFFFFFFFF);
      face_order_[to] = static_cast<int32_t>(f);
      for (int k = 0; k < 3; ++k) corners_[4 * to + size(k)] = sorted_[size(faces[3 * f + k])];
    }
  }

  // Faces with a vertex twice have no area and no say: their edges are left out.
  void find_edges(int64_t begin, int64_t end) {
    std::vector<HalfEdge> halves;
    halves.reserve(size(3 * (end - begin)));
    for (int64_t f = begin; f < end; ++f) {
      const int32_t* c = &corners_[size(4 * f)];
      if (c[0] == c[1] || c[1] == c[2] || c[2] == c[0]) continue;
      for (int k = 0; k < 3; ++k) {
        const int32_t a = c[k], b = c[(k + 1) % 3];
        const bool runs_along = vert_order_[size(a)] < vert_order_[size(b)];
        halves.push_back({std::min(a, b), std::max(a, b), static_cast<int32_t>(2 * f + runs_along)});
      }
    }
    std::sort(halves.begin(), halves.end(), [](const HalfEdge& a, const HalfEdge& b) {
      return a.low != b.low ? a.low < b.low : a.high != b.high ? a.high < b.high : a.face < b.face;
    });
    for (size_t i = 0; i < halves.size();) {
      size_t j = i + 1;
      while (j < halves.size() && halves[j].low == halves[i].low && halves[j].high == halves[i].high) ++j;
      const bool in_order = vert_order_[size(halves[i].low)] < vert_order_[size(halves[i].high)];
      edge_ends_.push_back(in_order ? halves[i].low : halves[i].high);
      edge_ends_.push_back(in_order ? halves[i].high : halves[i].low);
      if (j - i <= 2) {
        edge_faces_.push_back(halves[i].face);
        edge_faces_.push_back(j - i == 2 ? halves[i + 1].face : kNoFace);
      } else {
        edge_faces_.push_back(static_cast<int32_t>(more_faces_.size()));
        edge_faces_.push_back(kMore);
        more_faces_.push_back(static_cast<int32_t>(j - i));
        for (size_t k = i; k < j; ++k) more_faces_.push_back(halves[k].face);
      }
      i = j;
    }
  }

  void list_corners() {
    corner_first_.assign(size(num_verts_ + 1), 0);
    for (int64_t f = 0; f < num_faces_; ++f) {
      for (int k = 0; k < 3; ++k) ++corner_first_[size(corners_[size(4 * f + k)] + 1)];
    }
    std::partial_sum(corner_first_.begin(), corner_first_.end(), corner_first_.begin());
    vert_corners_.resize(size(3 * num_faces_));
    std::vector<int32_t> next(corner_first_.begin(), corner_first_.end() - 1);
    for (int64_t f = 0; f < num_faces_; ++f) {
      for (int k = 0; k < 3; ++k) {
        vert_corners_[size(next[size(corners_[size(4 * f + k)])]++)] = static_cast<int32_t>(4 * f + k);
      }
    }
  }

  int64_t num_meshes_, num_verts_, num_faces_;
  std::vector<int32_t> vert_first_, face_first_, edge_first_, vert_order_, face_order_, corners_, edge_ends_, edge_faces_, more_faces_,
      corner_first_, vert_corners_;
  std::vector<int32_t> sorted_;  // the place of each given vertex
};

}  // namespace

std::vector<int32_t> make_mesh_index(const int64_t* faces, int64_t num_meshes, const int64_t* vert_first,
                                     const int64_t* face_first) {
  return Builder(faces, num_meshes, vert_first, face_first).buffer();
}

bool looks_valid(const int32_t* data, int64_t size) {
  if (size < kHeaderSize || data[kMagicNumber] != kMagic || data[kTotalSize] != size) return false;
  const int64_t meshes = data[kNumMeshes], verts = data[kNumVerts], faces = data[kNumFaces], edges = data[kNumEdges];
  if (meshes < 0 || verts < 0 || faces < 0 || edges < 0) return false;
  constexpr int64_t kAny = -1;
  const int64_t sizes[kNumSections] = {meshes + 1, meshes + 1, meshes + 1, verts,     faces,
                                       4 * faces,  2 * edges,  2 * edges, kAny,       verts + 1, 3 * faces};
  int64_t end = kHeaderSize;
  for (int k = 0; k < kNumSections; ++k) {
    const int64_t begin = data[kSectionOffsets + k], next = k + 1 < kNumSections ? data[kSectionOffsets + k + 1] : size;
    if (begin != end || next < begin || (sizes[k] != kAny && next - begin != sizes[k])) return false;
    end = next;
  }
  return true;
}

}  // namespace largesteps::renderer

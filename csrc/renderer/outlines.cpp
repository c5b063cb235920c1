#include "no_contraction.h"

#include "outlines.h"

#include <cmath>
#include <tuple>

namespace largesteps::renderer {
namespace {

// On which side of an edge in the picture all of its faces lie: +1 or -1; 0 if they lie on both, or none has an area.
int32_t side_of(const MeshIndex& index, const int32_t* faces, const int8_t* sides) {
  auto of_face = [&](int32_t entry) { return sides[entry >> 1] * (2 * (entry & 1) - 1); };
  if (faces[1] >= 0) {
    const int32_t s = of_face(faces[0]), t = of_face(faces[1]), total = s + t;
    return s * t < 0 ? 0 : (total > 0) - (total < 0);
  }
  if (faces[1] == kNoFace) return of_face(faces[0]);
  const int32_t* more = index[kMoreFaces] + faces[0];
  int32_t total = 0, count = 0;
  for (int32_t k = 1; k <= more[0]; ++k) {
    const int32_t s = of_face(more[k]);
    total += s, count += std::abs(s);
  }
  return std::abs(total) != count ? 0 : (total > 0) - (total < 0);
}

// Whether an edge has two faces that run the same way round and are seen from the same side, as nearly all have: its side is 0.
inline bool is_inner(const int32_t* faces, const int8_t* sides) {
  return faces[1] >= 0 && ((faces[0] ^ faces[1]) & 1) && sides[faces[0] >> 1] == sides[faces[1] >> 1];
}

template <typename T>
struct Candidate {
  Crossing crossing;
  T distance;
  int32_t first, second;  // the given numbers of the edge's ends
};

// By the pair of pixels; and of one pair, the crossing to keep comes last.
template <typename T>
bool comes_before(const Candidate<T>& a, const Candidate<T>& b) {
  auto key = [](const Candidate<T>& c) {
    return std::make_tuple(c.crossing.inside, c.crossing.outside, c.distance, c.first, c.second);
  };
  return key(a) < key(b);
}

}  // namespace

template <typename T>
std::vector<Crossing> find_crossings(const Frame<T>& frame, const Camera<T>& camera, const MeshIndex& index, int64_t mesh,
                                     int32_t image, const Points<T>& points, const T* depth, const int8_t* sides) {
  const int height = frame.height, width = frame.width;
  const int32_t *ends = index[kEdgeEnds], *edge_faces = index[kEdgeFaces], *order = index[kVertOrder];
  std::vector<Candidate<T>> found;
  for (int32_t e = index[kEdgeFirst][mesh]; e < index[kEdgeFirst][mesh + 1]; ++e) {
    const int32_t* faces = edge_faces + 2 * int64_t{e};
    if (is_inner(faces, sides)) continue;
    const int32_t side = side_of(index, faces, sides);
    if (side == 0) continue;
    const int32_t* edge = ends + 2 * int64_t{e};
    const T *a = points.place(edge[0] + points.shift), *b = points.place(edge[1] + points.shift);
    if (!(std::min(a[2], b[2]) > camera.z_clip)) continue;
    const T col_a = frame.mid_col - a[0] * frame.to_col, row_a = frame.mid_row - a[1] * frame.to_row;
    const T col_b = frame.mid_col - b[0] * frame.to_col, row_b = frame.mid_row - b[1] * frame.to_row;
    const bool steep = std::abs(row_b - row_a) >= std::abs(col_b - col_a);
    const T start = steep ? row_a : col_a, end = steep ? row_b : col_b;
    const T across_a = steep ? col_a : row_a, across_b = steep ? col_b : row_b;
    const T low = std::min(start, end), high = std::max(start, end), largest = T(std::max(height, width));
    if (!(low <= high)) continue;  // NaN
    const int lines = steep ? height : width, last = (steep ? width : height) - 1;
    // half open: a shared end is cut once
    const int first = std::max(static_cast<int>(std::ceil(std::clamp(low, T(-1), largest))), 0);
    const int stop = std::min(static_cast<int>(std::ceil(std::clamp(high, T(-1), largest))), lines);
    // The side of the faces: for a steep edge that runs down the rows it is that of smaller columns. A flat edge has swapped
    // axes, which mirrors the plane.
    const bool inside_before = (side > 0) == ((end > start) == steep);
    for (int line = first; line < stop; ++line) {
      const T t = (T(line) - start) / (end - start), cut = across_a + t * (across_b - across_a), before = std::floor(cut);
      if (!(before >= 0 && before < T(last))) continue;
      const int at = static_cast<int>(before), in = inside_before ? at : at + 1, out = inside_before ? at + 1 : at;
      const T distance = inside_before ? cut - before : before + 1 - cut;
      const T z = camera.perspective ? a[2] * b[2] / (b[2] + t * (a[2] - b[2])) : a[2] + t * (b[2] - a[2]);
      auto depth_at = [&](int across) {
        return depth[steep ? int64_t{line} * frame.pitch + across : int64_t{across} * frame.pitch + line];
      };
      const T outside_depth = depth_at(out);
      if (!(z < outside_depth && depth_at(in) < outside_depth)) continue;
      auto pixel = [&](int across) { return steep ? line * width + across : across * width + line; };
      const int32_t flags = (steep ? Crossing::kSteep : 0) | (distance > T(0.5) ? Crossing::kReachesOut : 0);
      found.push_back({{image, e, line, pixel(in), pixel(out), flags}, distance, order[edge[0]], order[edge[1]]});
    }
  }
  std::sort(found.begin(), found.end(), comes_before<T>);
  std::vector<Crossing> result;
  for (size_t i = 0; i < found.size(); ++i) {
    const Crossing& c = found[i].crossing;
    const bool is_last = i + 1 == found.size() || found[i + 1].crossing.inside != c.inside || found[i + 1].crossing.outside != c.outside;
    if (is_last) result.push_back(c);
  }
  std::stable_sort(result.begin(), result.end(), [](const Crossing& a, const Crossing& b) { return a.target() < b.target(); });
  return result;
}

template <typename T>
Cut<T> cut_of(const Frame<T>& frame, const MeshIndex& index, const Points<T>& points, const Crossing& crossing) {
  const int32_t* edge = index[kEdgeEnds] + 2 * int64_t{crossing.edge};
  Cut<T> r;
  r.row_a = edge[0] + points.shift, r.row_b = edge[1] + points.shift;
  r.a = points.place(r.row_a), r.b = points.place(r.row_b);
  const T col_a = frame.mid_col - r.a[0] * frame.to_col, row_a = frame.mid_row - r.a[1] * frame.to_row;
  const T col_b = frame.mid_col - r.b[0] * frame.to_col, row_b = frame.mid_row - r.b[1] * frame.to_row;
  const bool steep = crossing.steep();
  const T start = steep ? row_a : col_a, across_a = steep ? col_a : row_a, across_b = steep ? col_b : row_b;
  r.length = (steep ? row_b : col_b) - start;
  r.along = (T(crossing.line) - start) / r.length, r.tilt = (across_b - across_a) / r.length;
  const int in = steep ? crossing.inside % frame.width : crossing.inside / frame.width;
  const T cut = across_a + r.along * (across_b - across_a), offset = cut - T(in);
  r.distance = std::abs(offset);
  r.direction = offset < 0 ? T(-1) : offset > 0 ? T(1) : T(0);
  return r;
}

template <typename T>
void cut_backward(const Frame<T>& frame, const Crossing& crossing, const Cut<T>& cut, T to_blend, T* to) {
  const T slope = to_blend * cut.slope();  // by the place of the cut
  const T across_a = slope * (1 - cut.along), across_b = slope * cut.along;
  const T start = slope * cut.tilt * (cut.along - 1), end = -slope * cut.tilt * cut.along;
  const bool steep = crossing.steep();
  T *to_a = to + 4 * int64_t{cut.row_a}, *to_b = to + 4 * int64_t{cut.row_b};
  to_a[0] -= frame.to_col * (steep ? across_a : start), to_a[1] -= frame.to_row * (steep ? start : across_a);
  to_b[0] -= frame.to_col * (steep ? across_b : end), to_b[1] -= frame.to_row * (steep ? end : across_b);
}

#define LARGESTEPS_INSTANTIATE(T)                                                                                            \
  template std::vector<Crossing> find_crossings(const Frame<T>&, const Camera<T>&, const MeshIndex&, int64_t, int32_t,       \
                                                const Points<T>&, const T*, const int8_t*);                                 \
  template Cut<T> cut_of(const Frame<T>&, const MeshIndex&, const Points<T>&, const Crossing&);                              \
  template void cut_backward(const Frame<T>&, const Crossing&, const Cut<T>&, T, T*);
LARGESTEPS_INSTANTIATE(float)
LARGESTEPS_INSTANTIATE(double)
#undef LARGESTEPS_INSTANTIATE

}  // namespace largesteps::renderer

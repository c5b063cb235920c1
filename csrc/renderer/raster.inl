// The visible face of each pixel: the nearest, and of faces at the same depth the one with the lowest given number.
//
// The arithmetic is PyTorch3D's: the order of its operations, its rounding to float32, its small numbers. So the faces are the
// same, not only close. Bounding boxes only choose which pixels are tested.

template <typename T>
struct Triangle {
  T x0, y0, z0, x1, y1, z1, x2, y2, z2;
};

template <typename T>
struct Record {  // a triangle with its box of pixels, half open
  Triangle<T> t;
  T area, nearest;  // see nearest_depth
  int32_t first_col, end_col, first_row, end_row, face;
};

template <typename T>
LARGESTEPS_INLINE T rasterizer_area(const Triangle<T>& t) {
  return static_cast<T>(static_cast<double>((t.x2 - t.x0) * (t.y1 - t.y0) - (t.y2 - t.y0) * (t.x1 - t.x0)) + kEpsilon);
}

template <typename T>
LARGESTEPS_INLINE int whole(T value, int low, int high) {  // NaN gives low
  return value > T(low) ? (value < T(high) ? static_cast<int>(value) : high) : low;
}

// A depth that no pixel of a triangle, or of eight, can be nearer than. Interpolated depths fall below the nearest corner's
// where the weights sum to less than one: by rounding, in a sliver, or because of the small numbers that PyTorch3D divides by.
template <typename T, typename V>
LARGESTEPS_INLINE V nearest_depth(bool perspective, V x0, V y0, V z0, V x1, V y1, V z1, V x2, V y2, V z2, V area) {
  constexpr T kRounding = sizeof(T) == 4 ? T(4e-6) : T(1e-14);  // of a few dozen operations
  const V width = most(x0, most(x1, x2)) - least(x0, least(x1, x2)), height = most(y0, most(y1, y2)) - least(y0, least(y1, y2));
  const V z = least(z0, least(z1, z2)), missing = (T(kEpsilon) + kRounding * width * height) / absolute(area);
  V bound = z * (T(1) - missing - kRounding);
  // What they are divided by may be 1e-8 instead of their sum.
  if (perspective) bound = z * z > T(4 * kEpsilon) ? z * (T(1) - kRounding) : V{};
  return missing < T(0.5) ? bound : V{};
}

// The record of one triangle; false if no pixel of the rows can see it.
template <typename T>
bool make_record(const Frame<T>& frame, const Camera<T>& camera, const Triangle<T>& t, int32_t face, int first_row, int end_row,
                 Record<T>& r) {
  const T facing = (t.x0 - t.x1) * (t.y2 - t.y1) - (t.y0 - t.y1) * (t.x2 - t.x1);
  if (!(std::abs(facing) > T(kEpsilon)) || !(std::min(t.z0, std::min(t.z1, t.z2)) >= T(kEpsilon))) return false;
  if (camera.culls && !(facing >= 0)) return false;
  auto range = [](T a, T b, T c, T half, T scale, T slack, int size, int32_t& low, int32_t& high) {
    const T least = (std::min(a, std::min(b, c)) + half) * scale - T(0.5) - slack;
    const T most = (std::max(a, std::max(b, c)) + half) * scale - T(0.5) + slack;
    high = size - whole(std::ceil(least), 0, size);  // the picture is mirrored
    low = size - whole(std::floor(most) + 1, 0, size);
  };
  range(t.x0, t.x1, t.x2, frame.half_x, frame.to_col, frame.slack_x, frame.width, r.first_col, r.end_col);
  range(t.y0, t.y1, t.y2, frame.half_y, frame.to_row, frame.slack_y, frame.height, r.first_row, r.end_row);
  r.first_row = std::max(r.first_row, first_row), r.end_row = std::min(r.end_row, end_row);
  r.t = t, r.area = rasterizer_area(t), r.face = face;
  r.nearest = nearest_depth<T>(camera.perspective, t.x0, t.y0, t.z0, t.x1, t.y1, t.z1, t.x2, t.y2, t.z2, r.area);
  return r.first_col < r.end_col && r.first_row < r.end_row;
}

// The depth of a triangle at the pixels whose edge functions are e, and which of them it covers. Both divisions and the second
// test are PyTorch3D's.
template <typename T>
LARGESTEPS_INLINE Mask<T> covered(bool perspective, Vector<T> e0, Vector<T> e1, Vector<T> e2, Vector<T> area, Vector<T> z0,
                                  Vector<T> z1, Vector<T> z2, Vector<T>& depth) {
  Vector<T> b0 = e0 / area, b1 = e1 / area, b2 = e2 / area;
  Mask<T> in = (b0 > 0) & (b1 > 0) & (b2 > 0);
  if (perspective) {
    b0 = b0 * z1 * z2, b1 = b1 * z0 * z2, b2 = b2 * z0 * z1;
    const Vector<T> sum = most(b0 + b1 + b2, all(T(kEpsilon)));
    b0 = b0 / sum, b1 = b1 / sum, b2 = b2 / sum;
    in = in & (b0 > 0) & (b1 > 0) & (b2 > 0);
  }
  depth = b0 * z0 + b1 * z1 + b2 * z2;
  return in & (depth >= 0);
}

// Whether a face wins against another at the same depth, or against none: then the depth is infinite.
LARGESTEPS_INLINE bool comes_first(const int32_t* face_order, int32_t face, int32_t other) {
  return other < 0 || face_order[face] < face_order[other];
}

// The lanes are a block of 8 x 1 or 4 x 2 pixels.
template <bool kTwoRows, typename T>
LARGESTEPS_INLINE void fill(const Frame<T>& frame, bool perspective, const int32_t* face_order, const Record<T>& r, int first_row,
                            int end_row, const Buffers<T>& buffers) {
  const Triangle<T>& t = r.t;
  const Vector<T> area = all(r.area), z0 = all(t.z0), z1 = all(t.z1), z2 = all(t.z2);
  const T dx0 = t.x2 - t.x1, dx1 = t.x0 - t.x2, dx2 = t.x1 - t.x0, dy0 = t.y2 - t.y1, dy1 = t.y0 - t.y2, dy2 = t.y1 - t.y0;
  const T turn = r.area < 0 ? T(-1) : T(1);
  constexpr int kColumns = kTwoRows ? 4 : 8, kRows = kTwoRows ? 2 : 1;
  const Int8 lane_column = kTwoRows ? Int8{0, 1, 2, 3, 0, 1, 2, 3} : counting();
  typedef int32_t Int4 __attribute__((vector_size(16), aligned(4)));
  for (int row = first_row; row < end_row; row += kRows) {
    const T y = frame.y[static_cast<size_t>(row)], below = kTwoRows ? frame.y[static_cast<size_t>(row + 1)] : y;
    const Vector<T> py = {y, y, y, y, below, below, below, below};
    const Vector<T> c0 = (py - t.y1) * dx0, c1 = (py - t.y2) * dx1, c2 = (py - t.y0) * dx2;
    for (int col = r.first_col; col < r.end_col; col += kColumns) {
      const int64_t place = int64_t{row} * frame.pitch + col;
      Vector<T> now, px;
      if constexpr (kTwoRows) {
        const Quad<T> upper = quad_at(buffers.depth + place), lower = quad_at(buffers.depth + place + frame.pitch);
        const Quad<T> x = quad_at(frame.x.data() + col);
        now = LARGESTEPS_SHUFFLE(upper, lower, 0, 1, 2, 3, 4, 5, 6, 7), px = LARGESTEPS_SHUFFLE(x, x, 0, 1, 2, 3, 0, 1, 2, 3);
      } else {
        now = load(buffers.depth + place), px = load(frame.x.data() + col);
      }
      const Mask<T> open = now >= r.nearest;
      if (!bits(open)) continue;
      const Vector<T> e0 = (px - t.x1) * dy0 - c0, e1 = (px - t.x2) * dy1 - c1, e2 = (px - t.x0) * dy2 - c2;
      Mask<T> in = (e0 * turn > 0) & (e1 * turn > 0) & (e2 * turn > 0) & as_mask<T>(lane_column < r.end_col - col);
      if (!bits(in)) continue;
      Vector<T> depth;
      in = in & covered<T>(perspective, e0, e1, e2, area, z0, z1, z2, depth);
      Int8 faces;
      if constexpr (kTwoRows) {
        const Int4 upper = *reinterpret_cast<const Int4*>(buffers.faces + place);
        const Int4 lower = *reinterpret_cast<const Int4*>(buffers.faces + place + frame.pitch);
        faces = LARGESTEPS_SHUFFLE(upper, lower, 0, 1, 2, 3, 4, 5, 6, 7);
      } else {
        faces = *reinterpret_cast<const Int8*>(buffers.faces + place);
      }
      Mask<T> wins = in & (depth < now);
      const unsigned ties = bits(in & (depth == now));
      for (int lane = 0; ties >> lane; ++lane) {
        if ((ties >> lane & 1) && comes_first(face_order, r.face, faces[lane])) wins[lane] = -1;
      }
      if (!bits(wins)) continue;
      const Vector<T> new_depth = wins ? depth : now;
      const Int8 wins_int = __builtin_convertvector(wins, Int8), new_faces = (faces & ~wins_int) | (wins_int & r.face);
      if constexpr (kTwoRows) {
        put_quad<T>(buffers.depth + place, LARGESTEPS_SHUFFLE(new_depth, new_depth, 0, 1, 2, 3));
        put_quad<T>(buffers.depth + place + frame.pitch, LARGESTEPS_SHUFFLE(new_depth, new_depth, 4, 5, 6, 7));
        *reinterpret_cast<Int4*>(buffers.faces + place) = LARGESTEPS_SHUFFLE(new_faces, new_faces, 0, 1, 2, 3);
        *reinterpret_cast<Int4*>(buffers.faces + place + frame.pitch) = LARGESTEPS_SHUFFLE(new_faces, new_faces, 4, 5, 6, 7);
      } else {
        store(buffers.depth + place, new_depth);
        *reinterpret_cast<Int8*>(buffers.faces + place) = new_faces;
      }
    }
  }
}

template <typename T>
void fill(const Frame<T>& frame, bool perspective, const int32_t* face_order, const Record<T>& r, const Buffers<T>& buffers) {
  if (r.end_col - r.first_col > 4) return fill<false>(frame, perspective, face_order, r, r.first_row, r.end_row, buffers);
  const int even = r.first_row + ((r.end_row - r.first_row) & ~1);  // the row below may be another thread's
  fill<true>(frame, perspective, face_order, r, r.first_row, even, buffers);
  if (even < r.end_row) fill<false>(frame, perspective, face_order, r, even, r.end_row, buffers);
}

// Cuts a triangle at the plane z = z_clip, as PyTorch3D does: what is behind it goes, and the rest is one triangle or two.
template <typename T>
int clip(const Camera<T>& camera, const Triangle<T>& t, Triangle<T> (&parts)[2]) {
  const T p[3][3] = {{t.x0, t.y0, t.z0}, {t.x1, t.y1, t.z1}, {t.x2, t.y2, t.z2}};
  const bool behind[3] = {t.z0 < camera.z_clip, t.z1 < camera.z_clip, t.z2 < camera.z_clip};
  const int num_behind = behind[0] + behind[1] + behind[2];
  if (num_behind == 3) return 0;
  if (num_behind == 0) {
    parts[0] = t;
    return 1;
  }
  int alone = 0;  // on its side of the plane
  while (behind[alone] != (num_behind == 1)) ++alone;
  const T *p1 = p[alone], *p2 = p[(alone + 1) % 3], *p3 = p[(alone + 2) % 3];
  T cut[2][3];
  for (int k = 0; k < 2; ++k) {
    const T* other = k ? p3 : p2;
    const T weight = (p1[2] - camera.z_clip) / (p1[2] - other[2]);
    for (int axis = 0; axis < 3; ++axis) cut[k][axis] = p1[axis] * (1 - weight) + other[axis] * weight;
    if (camera.perspective) {
      for (int axis = 0; axis < 2; ++axis) {
        const T from = p1[axis] * p1[2], to = other[axis] * other[2];
        cut[k][axis] = (from * (1 - weight) + to * weight) / camera.z_clip;
      }
    }
  }
  const T *p4 = cut[0], *p5 = cut[1];
  auto triangle = [](const T* a, const T* b, const T* c) {
    return Triangle<T>{a[0], a[1], a[2], b[0], b[1], b[2], c[0], c[1], c[2]};
  };
  if (num_behind == 2) {
    parts[0] = triangle(p4, p5, p1);
    return 1;
  }
  parts[0] = triangle(p4, p2, p5), parts[1] = triangle(p5, p2, p3);
  return 2;
}

template <typename T>
void rasterize(const Frame<T>& frame, const Camera<T>& camera, const Points<T>& points, const int32_t* face_order, int64_t begin,
               int64_t end, int first_row, int end_row, const Buffers<T>& buffers, int8_t* sides) {
  std::vector<Record<T>> later;
  const Vector<T> zero = all(T(0)), width = all(T(frame.width)), eps = all(T(kEpsilon));
  const Vector<T> height = all(T(frame.height)), top = all(T(first_row)), bottom = all(T(end_row));
  // The numbers of frame.x and frame.y, computed rather than looked up.
  auto centers = [](Vector<T> place, T half, Vector<T> size) {
    return (2 * half * (size - T(1) - place) + half) / size - half;
  };
  for (int64_t f = begin; f < end; f += 8) {
    const int count = static_cast<int>(std::min<int64_t>(8, end - f));
    int32_t index[3][8];
    point_rows(points, f, count, index);
    Vector<T> p0[4], p1[4], p2[4];
    Rows<T, 4>::gather(points.data, index[0], p0);
    Rows<T, 4>::gather(points.data, index[1], p1);
    Rows<T, 4>::gather(points.data, index[2], p2);
    const Vector<T>&x0 = p0[0], &y0 = p0[1], &z0 = p0[2], &x1 = p1[0], &y1 = p1[1], &z1 = p1[2], &x2 = p2[0], &y2 = p2[1], &z2 = p2[2];
    if (sides) {
      const Vector<T> col = frame.mid_col - x0 * frame.to_col, row = frame.mid_row - y0 * frame.to_row;
      const Vector<T> ux = (frame.mid_col - x1 * frame.to_col) - col, uy = (frame.mid_row - y1 * frame.to_row) - row;
      const Vector<T> vx = (frame.mid_col - x2 * frame.to_col) - col, vy = (frame.mid_row - y2 * frame.to_row) - row;
      const Vector<T> area = ux * vy - uy * vx;
      typedef int8_t Byte8 __attribute__((vector_size(8)));
      const Byte8 side = __builtin_convertvector((area < 0) - (area > 0), Byte8);  // a true lane is -1
      int8_t lanes[8];
      __builtin_memcpy(lanes, &side, 8);
      std::copy(lanes, lanes + count, sides + f);
    }
    const unsigned present = (1u << count) - 1;
    if (camera.clips) {
      const unsigned cut = bits((z0 < camera.z_clip) | (z1 < camera.z_clip) | (z2 < camera.z_clip)) & present;
      if (cut) {  // rare: the eight faces one by one
        for (int lane = 0; lane < count; ++lane) {
          const Triangle<T> t = {x0[lane], y0[lane], z0[lane], x1[lane], y1[lane], z1[lane], x2[lane], y2[lane], z2[lane]};
          Triangle<T> parts[2];
          const int num_parts = clip(camera, t, parts);
          for (int k = 0; k < num_parts; ++k) {
            Record<T> r;
            if (make_record(frame, camera, parts[k], static_cast<int32_t>(f + lane), first_row, end_row, r)) {
              fill(frame, camera.perspective, face_order, r, buffers);
            }
          }
        }
        continue;
      }
    }
    const Vector<T> facing = (x0 - x1) * (y2 - y1) - (y0 - y1) * (x2 - x1);
    Mask<T> kept = (absolute(facing) > eps) & (least(z0, least(z1, z2)) >= eps);
    if (camera.culls) kept = kept & (facing >= 0);
    // First and last of the pixels in the box: whole numbers, held as T.
    auto range = [&](Vector<T> a, Vector<T> b, Vector<T> c, T half, T scale, T slack, Vector<T> size, Vector<T>& low, Vector<T>& high) {
      const Vector<T> lowest = (least(a, least(b, c)) + half) * scale - (T(0.5) + slack);
      const Vector<T> highest = (most(a, most(b, c)) + half) * scale - (T(0.5) - slack);
      auto limited = [&](Vector<T> v) { return most(all(T(-1)), least(size, v)); };
      const Vector<T> from = limited(lowest), to = limited(highest);
      const Vector<T> from_whole = as_floats<T>(rounded_to_zero(from)), to_whole = as_floats<T>(rounded_to_zero(to));
      const Vector<T> one = all(T(1));
      const Vector<T> ceil = most(zero, from_whole < from ? from_whole + one : from_whole);
      const Vector<T> floor = to_whole > to ? to_whole - one : to_whole;
      high = size - ceil;  // the picture is mirrored
      low = size - least(size, floor + one);
    };
    Vector<T> left, right, upper, lower;
    range(y0, y1, y2, frame.half_y, frame.to_row, frame.slack_y, height, upper, lower);
    upper = most(upper, top), lower = least(lower, bottom);
    kept = kept & (upper < lower);
    if (!(bits(kept) & present)) continue;
    range(x0, x1, x2, frame.half_x, frame.to_col, frame.slack_x, width, left, right);
    kept = kept & (left < right);
    const unsigned mask = bits(kept) & present;
    if (!mask) continue;
    const Vector<T> raw = (x2 - x0) * (y1 - y0) - (y2 - y0) * (x1 - x0);
    typedef double Wide __attribute__((vector_size(64)));
    const Vector<T> area = __builtin_convertvector(__builtin_convertvector(raw, Wide) + kEpsilon, Vector<T>);
    const Int8 cols = rounded_to_zero(left), rows = rounded_to_zero(upper);
    const Mask<T> small = kept & (right - left <= T(2)) & (lower - upper <= T(2));
    const unsigned smalls = bits(small) & mask;
    if (smalls) {  // boxes of at most 2 x 2 pixels: one pixel of eight faces at a time
      const Vector<T> dx0 = x2 - x1, dx1 = x0 - x2, dx2 = x1 - x0, dy0 = y2 - y1, dy1 = y0 - y2, dy2 = y1 - y0;
      Vector<T> along[2][3], across[2][3];
      for (int i = 0; i < 2; ++i) {
        const Vector<T> px = centers(left + T(i), frame.half_x, width), py = centers(upper + T(i), frame.half_y, height);
        along[i][0] = (px - x1) * dy0, along[i][1] = (px - x2) * dy1, along[i][2] = (px - x0) * dy2;
        across[i][0] = (py - y1) * dx0, across[i][1] = (py - y2) * dx1, across[i][2] = (py - y0) * dx2;
      }
      const Mask<T> wide = small & (left + T(1) < right), high = upper + T(1) < lower;
      const Mask<T> valid[4] = {small, wide, small & high, wide & high};
      const Vector<T> turn = area < 0 ? all(T(-1)) : all(T(1));
      for (int step = 0; step < 4; ++step) {
        const int i = step & 1, j = step >> 1;
        if (!(bits(valid[step]) & mask)) continue;  // of tiny faces few have a second pixel
        const Vector<T> e0 = along[i][0] - across[j][0], e1 = along[i][1] - across[j][1], e2 = along[i][2] - across[j][2];
        Mask<T> in = valid[step] & (e0 * turn > 0) & (e1 * turn > 0) & (e2 * turn > 0);
        if (!(bits(in) & mask)) continue;
        Vector<T> depth;
        in = in & covered<T>(camera.perspective, e0, e1, e2, area, z0, z1, z2, depth);
        alignas(64) T depths[8];
        alignas(32) int32_t row[8], col[8];
        store(depths, depth), put_ints(row, rows), put_ints(col, cols);
        for (unsigned hits = bits(in) & mask; hits; hits &= hits - 1) {
          const int lane = __builtin_ctz(hits);
          const int64_t place = int64_t{row[lane] + j} * frame.pitch + col[lane] + i;
          T& now = buffers.depth[place];
          int32_t& face = buffers.faces[place];
          const auto id = static_cast<int32_t>(f + lane);
          if (depths[lane] < now || (depths[lane] == now && comes_first(face_order, id, face))) now = depths[lane], face = id;
        }
      }
    }
    unsigned large = mask & ~smalls;
    if (!large) continue;
    const Vector<T> nearest = nearest_depth<T>(camera.perspective, x0, y0, z0, x1, y1, z1, x2, y2, z2, area);
    alignas(64) T values[11][8];
    alignas(32) int32_t box[4][8];
    const Vector<T> kept_values[11] = {x0, y0, z0, x1, y1, z1, x2, y2, z2, area, nearest};
    for (int k = 0; k < 11; ++k) store(values[k], kept_values[k]);
    put_ints(box[0], cols), put_ints(box[1], rounded_to_zero(right)), put_ints(box[2], rows), put_ints(box[3], rounded_to_zero(lower));
    for (; large; large &= large - 1) {
      const int k = __builtin_ctz(large);
      const Record<T> r = {{values[0][k], values[1][k], values[2][k], values[3][k], values[4][k], values[5][k], values[6][k],
                            values[7][k], values[8][k]},
                           values[9][k], values[10][k], box[0][k], box[1][k], box[2][k], box[3][k], static_cast<int32_t>(f + k)};
      if (r.area < 0) {  // of the faces that are seen from behind most are hidden by others
        later.push_back(r);
      } else {
        fill(frame, camera.perspective, face_order, r, buffers);
      }
    }
  }
  for (const Record<T>& r : later) fill(frame, camera.perspective, face_order, r, buffers);
}

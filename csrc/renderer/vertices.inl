// The work per vertex: normals, the light, projection; and back.
//
// The light is given by the coefficients of 1, y, z, x, xy, yz, 3 zz - 1, xz, xx - yy of the unit normal.

template <typename T>
LARGESTEPS_INLINE void corner_coordinates(const Surface<T>& s, int64_t first, int count, Vector<T> (&corner)[3][4]) {
  int32_t index[3][8];
  for (int lane = 0; lane < 8; ++lane) {
    const int32_t* c = s.corners + 4 * (first + std::min(lane, count - 1));
    for (int k = 0; k < 3; ++k) index[k][lane] = c[k];
  }
  for (int k = 0; k < 3; ++k) Rows<T, 4>::gather(s.verts, index[k], corner[k]);
}

template <typename T>
LARGESTEPS_INLINE void put_first_rows(const Vector<T>* columns, int count, T* to) {
  if (count == 8) return put_rows<T>(columns, to);
  alignas(64) T rows[32];
  put_rows<T>(columns, rows);
  std::copy(rows, rows + 4 * count, to);
}

template <typename T>
void face_normals(const Surface<T>& s, int64_t begin, int64_t end, T* normals) {
  const Vector<T> scale = all(s.scale);
  for (int64_t f = begin; f < end; f += 8) {
    const int count = static_cast<int>(std::min<int64_t>(8, end - f));
    Vector<T> c[3][4], u[3], v[3];
    corner_coordinates(s, f, count, c);
    for (int k = 0; k < 3; ++k) u[k] = (c[1][k] - c[0][k]) * scale, v[k] = (c[2][k] - c[0][k]) * scale;
    const Vector<T> normal[4] = {u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0], all(T(0))};
    put_first_rows<T>(normal, count, normals + 4 * f);
  }
}

template <typename T>
void vertex_normals(const Surface<T>& s, const T* face_normals, int64_t begin, int64_t end, T* normals) {
  for (int64_t i = begin; i < end; ++i) {
    Quad<T> sum = {0, 0, 0, 0};
    for (int32_t k = s.corner_first[i]; k < s.corner_first[i + 1]; ++k) {
      sum += quad_at(face_normals + int64_t{s.vert_corners[k] & ~3});
    }
    const T length = std::sqrt(sum[0] * sum[0] + sum[1] * sum[1] + sum[2] * sum[2]);
    const T inverse = length > 0 ? 1 / length : T(1);
    sum *= Quad<T>{inverse, inverse, inverse, inverse};
    sum[3] = inverse;
    put_quad(normals + 4 * i, sum);
  }
}

template <typename T>
LARGESTEPS_INLINE void light_basis(Vector<T> x, Vector<T> y, Vector<T> z, Vector<T>* basis) {
  const Vector<T> one = all(T(1));
  basis[0] = one, basis[1] = y, basis[2] = z, basis[3] = x, basis[4] = x * y, basis[5] = y * z;
  basis[6] = T(3) * z * z - one, basis[7] = x * z, basis[8] = x * x - y * y;
}

// x y z 1 times a column of a matrix (4, 4) for row vectors. fuses: as torch's matrix product does, so that points are mostly
// the same to the last bit; see points.cpp.
template <typename T>
LARGESTEPS_INLINE Vector<T> times_column(bool fuses, Vector<T> x, Vector<T> y, Vector<T> z, const T* m, int c) {
  if (!fuses) return x * m[c] + y * m[4 + c] + z * m[8 + c] + m[12 + c];
  return fused_multiply_add(z, all(m[8 + c]), fused_multiply_add(y, all(m[4 + c]), x * m[c])) + m[12 + c];
}

// Not 0: a vertex in the plane of the camera is in no face that is shown, but infinity times a zero gradient is NaN.
constexpr double kLeastW = 1e-10;

template <typename T>
void points_of(const T* verts, const T* normals, const T* colors, const T* view, const T* projection, const T* light,
               bool fuses, int64_t begin, int64_t end, T* to, int64_t plane) {
  for (int64_t i = begin; i < end; i += 8) {
    const int count = static_cast<int>(std::min<int64_t>(8, end - i));
    int32_t rows[8];
    for (int lane = 0; lane < 8; ++lane) rows[lane] = std::min(lane, count - 1);
    Vector<T> p[4];
    Rows<T, 4>::gather(verts + 4 * i, rows, p);
    const Vector<T> x = times_column<T>(fuses, p[0], p[1], p[2], view, 0), y = times_column<T>(fuses, p[0], p[1], p[2], view, 1),
                    z = times_column<T>(fuses, p[0], p[1], p[2], view, 2);
    const Vector<T> w = times_column<T>(fuses, x, y, z, projection, 3), size = most(absolute(w), all(T(kLeastW)));
    const Vector<T> divisor = w < 0 ? -size : size;
    const Vector<T> point[4] = {times_column<T>(fuses, x, y, z, projection, 0) / divisor,
                                times_column<T>(fuses, x, y, z, projection, 1) / divisor, z, divisor};
    const Vector<T> zero = all(T(0));
    Vector<T> shade[4] = {zero, zero, zero, zero}, color[4];
    if (light) {
      Vector<T> n[4], basis[9];
      Rows<T, 4>::gather(normals + 4 * i, rows, n);
      light_basis<T>(n[0], n[1], n[2], basis);
      for (int c = 0; c < 3; ++c) {
        for (int k = 0; k < 9; ++k) shade[c] += basis[k] * light[3 * k + c];
      }
    }
    if (colors) Rows<T, 4>::gather(colors + 4 * i, rows, color);
    put_first_rows<T>(point, count, to + 4 * i);
    if (light) put_first_rows<T>(shade, count, to + plane + 4 * i);
    if (colors) put_first_rows<T>(color, count, to + 2 * plane + 4 * i);
  }
}

template <typename T>
void points_backward(const PointsBackward<T>& a, int64_t begin, int64_t end) {
  const Vector<T> zero = all(T(0)), one = all(T(1));
  const bool has_light = a.blocks > 0, has_colors = a.blocks > 1;
  for (int64_t i = begin; i < end; i += 8) {
    const int count = static_cast<int>(std::min<int64_t>(8, end - i));
    int32_t rows[8];
    for (int lane = 0; lane < 8; ++lane) rows[lane] = std::min(lane, count - 1);
    // lanes behind the last vertex repeat it: they count in no sum
    const Mask<T> counts = as_mask<T>(counting() < count);
    Vector<T> p[4], n[4], basis[9], to_vert[4] = {zero, zero, zero, zero}, to_color[4] = {zero, zero, zero, zero};
    Vector<T> to_shade[3] = {zero, zero, zero}, to_normal[3] = {zero, zero, zero};
    Rows<T, 4>::gather(a.verts + 4 * i, rows, p);
    if (has_light) {
      Rows<T, 4>::gather(a.normals + 4 * i, rows, n);
      light_basis<T>(n[0], n[1], n[2], basis);
    }
    // of the light's coefficients, and of the normal
    auto through_light = [&](const T* light, T* to_light) {
      Vector<T> g[9];
      for (int k = 0; k < 9; ++k) {
        g[k] = light[3 * k] * to_shade[0] + light[3 * k + 1] * to_shade[1] + light[3 * k + 2] * to_shade[2];
        if (to_light) {
          for (int c = 0; c < 3; ++c) to_light[3 * k + c] += sum_of_lanes<T>(counts ? basis[k] * to_shade[c] : zero);
        }
      }
      const Vector<T>&x = n[0], &y = n[1], &z = n[2];
      to_normal[0] += g[3] + g[4] * y + g[7] * z + T(2) * g[8] * x;
      to_normal[1] += g[1] + g[4] * x + g[5] * z - T(2) * g[8] * y;
      to_normal[2] += g[2] + g[5] * y + T(6) * g[6] * z + g[7] * x;
    };
    for (int image = 0; image < a.num_images; ++image) {
      const T* at = a.points + image * a.image_stride + 4 * i;
      const T* from = a.gradient + image * a.image_stride + 4 * i;
      const T *view = a.view + 16 * image, *projection = a.projection + 16 * image;
      Vector<T> point[4], g[4];
      Rows<T, 4>::gather(at, rows, point);
      Rows<T, 4>::gather(from, rows, g);
      const Vector<T> clip_x = g[0] / point[3], clip_y = g[1] / point[3];
      const Vector<T> clip_w = absolute(point[3]) <= T(kLeastW) ? zero : g[3] - (clip_x * point[0] + clip_y * point[1]);
      Vector<T> d[3];
      for (int r = 0; r < 3; ++r) d[r] = projection[4 * r] * clip_x + projection[4 * r + 1] * clip_y + projection[4 * r + 3] * clip_w;
      d[2] += g[2];
      for (int r = 0; r < 3; ++r) to_vert[r] += view[4 * r] * d[0] + view[4 * r + 1] * d[1] + view[4 * r + 2] * d[2];
      if (a.to_cameras) {
        T *to_view = a.to_cameras + 32 * image, *to_projection = to_view + 16;
        const Vector<T> world[4] = {p[0], p[1], p[2], one};
        const Vector<T> seen[4] = {times_column<T>(false, p[0], p[1], p[2], view, 0), times_column<T>(false, p[0], p[1], p[2], view, 1), point[2],
                                   one};
        const Vector<T> clip[3] = {clip_x, clip_y, clip_w};
        constexpr int kColumns[3] = {0, 1, 3};
        for (int r = 0; r < 4; ++r) {
          for (int c = 0; c < 3; ++c) {
            to_view[4 * r + c] += sum_of_lanes<T>(counts ? world[r] * d[c] : zero);
            to_projection[4 * r + kColumns[c]] += sum_of_lanes<T>(counts ? seen[r] * clip[c] : zero);
          }
        }
      }
      if (has_light) {
        Vector<T> shade[4];
        Rows<T, 4>::gather(from + a.plane, rows, shade);
        if (a.light_per_image) {
          for (int c = 0; c < 3; ++c) to_shade[c] = shade[c];
          through_light(a.light + 27 * image, a.to_light ? a.to_light + 27 * image : nullptr);
        } else {
          for (int c = 0; c < 3; ++c) to_shade[c] += shade[c];
        }
      }
      if (has_colors && a.to_colors) {
        Vector<T> color[4];
        Rows<T, 4>::gather(from + 2 * a.plane, rows, color);
        for (int c = 0; c < 3; ++c) to_color[c] += color[c];
      }
    }
    put_first_rows<T>(to_vert, count, a.to_verts + 4 * i);
    if (has_colors && a.to_colors) put_first_rows<T>(to_color, count, a.to_colors + 4 * i);
    if (has_light) {
      if (!a.light_per_image) through_light(a.light, a.to_light);
      const Vector<T> along = to_normal[0] * n[0] + to_normal[1] * n[1] + to_normal[2] * n[2];
      const Vector<T> sums[4] = {(to_normal[0] - along * n[0]) * n[3], (to_normal[1] - along * n[1]) * n[3],
                                 (to_normal[2] - along * n[2]) * n[3], zero};
      put_first_rows<T>(sums, count, a.to_normal_sums + 4 * i);
    }
  }
}

template <typename T>
void face_normals_backward(const Surface<T>& s, const T* sums, int64_t begin, int64_t end, T* to) {
  for (int64_t f = begin; f < end; ++f) {
    const int32_t* c = s.corners + 4 * f;
    put_quad(to + 4 * f, s.scale * (quad_at(sums + 4 * int64_t{c[0]}) + quad_at(sums + 4 * int64_t{c[1]}) +
                                   quad_at(sums + 4 * int64_t{c[2]})));
  }
}

template <typename T>
LARGESTEPS_INLINE Quad<T> cross(Quad<T> a, Quad<T> b) {
  return Quad<T>{a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0], 0};
}

// A face's normal is (b - a) x (c - a), the same from each corner. For the corner a its gradient is that of the opposite edge.
template <typename T>
void vertices_backward(const Surface<T>& s, const T* face_gradients, int64_t begin, int64_t end, T* gradient) {
  constexpr int kAfter[3] = {1, 2, 0}, kBefore[3] = {2, 0, 1};
  for (int64_t i = begin; i < end; ++i) {
    Quad<T> sum = quad_at(gradient + 4 * i);
    for (int32_t k = s.corner_first[i]; k < s.corner_first[i + 1]; ++k) {
      const int32_t corner = s.vert_corners[k] & 3, face = s.vert_corners[k] & ~3;
      const int32_t* c = s.corners + face;
      const Quad<T> edge =
          s.scale * (quad_at(s.verts + 4 * int64_t{c[kBefore[corner]]}) - quad_at(s.verts + 4 * int64_t{c[kAfter[corner]]}));
      sum += cross<T>(quad_at(face_gradients + face), edge);
    }
    put_quad(gradient + 4 * i, sum);
  }
}

// From the visible faces to colours: interpolation of the attributes at eight pixels of a row at a time, and its derivative.

// The corners of the faces of eight pixels, and the barycentric coordinates there: q / sum(q), q = (a x b) / depth.
template <typename T>
struct Group {
  int32_t rows[3][8];    // of the points
  Vector<T> x[3], y[3];  // from the pixel to each corner
  Vector<T> inverse_depth[3], q[3], inverse_sum, weight[3];
};

// The triangle of a pixel with nothing: any, so that nothing is divided by zero.
template <typename T>
LARGESTEPS_INLINE void load_group(const Points<T>& points, bool perspective, const int32_t* faces, Vector<T> px, Vector<T> py,
                                  Group<T>& s) {
  int32_t valid = 0;
  for (int lane = 0; lane < 8; ++lane) valid = faces[lane] >= 0 ? faces[lane] : valid;
  for (int lane = 0; lane < 8; ++lane) {
    const int32_t* c = points.corners + 4 * int64_t{faces[lane] >= 0 ? faces[lane] : valid};
    for (int k = 0; k < 3; ++k) s.rows[k][lane] = c[k] + points.shift;
  }
  for (int k = 0; k < 3; ++k) {
    Vector<T> p[4];
    Rows<T, 4>::gather(points.data, s.rows[k], p);
    s.x[k] = p[0] - px, s.y[k] = p[1] - py;
    s.inverse_depth[k] = perspective ? T(1) / p[2] : all(T(1));
  }
  for (int k = 0; k < 3; ++k) {
    const int a = (k + 1) % 3, b = (k + 2) % 3;
    s.q[k] = (s.x[a] * s.y[b] - s.y[a] * s.x[b]) * s.inverse_depth[k];
  }
  s.inverse_sum = T(1) / (s.q[0] + s.q[1] + s.q[2]);
  for (int k = 0; k < 3; ++k) s.weight[k] = s.q[k] * s.inverse_sum;
}

template <typename T>
LARGESTEPS_INLINE void load_attributes(const Points<T>& points, const Group<T>& s, int block, Vector<T> (&a)[3][4]) {
  for (int k = 0; k < 3; ++k) Rows<T, 4>::gather(points.attributes(block), s.rows[k], a[k]);
}

template <typename T>
LARGESTEPS_INLINE void mix(const Group<T>& s, const Vector<T> (&a)[3][4], Vector<T>* value) {
  for (int c = 0; c < 4; ++c) value[c] = s.weight[0] * a[0][c] + s.weight[1] * a[1][c] + s.weight[2] * a[2][c];
}

// Sums the gradients of one face's corners over the pixels that follow each other in a row, and adds them when another face
// comes: neighbours mostly share a face.
template <typename T, int kPlanes>
class Gatherer {
 public:
  Gatherer(const Points<T>& points, T* to) : points_(points), to_(to) {}

  // rows: for each corner and plane, the gradients of eight pixels.
  LARGESTEPS_INLINE_MEMBER void add(const int32_t* faces, const T (*rows)[kPlanes][32]) {
    for (int lane = 0; lane < 8; ++lane) {
      if (faces[lane] < 0) continue;
      if (faces[lane] == face_) {
        for (int k = 0; k < 3; ++k) {
          for (int p = 0; p < kPlanes; ++p) sums_[k][p] += quad_at(rows[k][p] + 4 * lane);
        }
      } else {
        flush();
        face_ = faces[lane];
        for (int k = 0; k < 3; ++k) {
          for (int p = 0; p < kPlanes; ++p) sums_[k][p] = quad_at(rows[k][p] + 4 * lane);
        }
      }
    }
  }
  LARGESTEPS_INLINE_MEMBER void flush() {
    if (face_ < 0) return;
    const int32_t* c = points_.corners + 4 * int64_t{face_};
    for (int k = 0; k < 3; ++k) {
      T* at = to_ + 4 * int64_t{c[k] + points_.shift};
      for (int p = 0; p < kPlanes; ++p, at += points_.plane) put_quad<T>(at, quad_at(at) + sums_[k][p]);
    }
    face_ = -1;
  }

 private:
  const Points<T>& points_;
  T* to_;
  int32_t face_ = -1;
  Quad<T> sums_[3][kPlanes];
};

// The gradients of the corners' x, y and depth, as eight rows for each corner, from those of the weights.
template <typename T, int kPlanes>
LARGESTEPS_INLINE void weights_backward(const Group<T>& s, bool perspective, const Vector<T> (&to_weight)[3], T (*rows)[kPlanes][32]) {
  const Vector<T> mean = to_weight[0] * s.weight[0] + to_weight[1] * s.weight[1] + to_weight[2] * s.weight[2];
  Vector<T> to_cross[3];
  for (int k = 0; k < 3; ++k) to_cross[k] = (to_weight[k] - mean) * s.inverse_sum * s.inverse_depth[k];
  for (int k = 0; k < 3; ++k) {
    const int a = (k + 1) % 3, b = (k + 2) % 3;
    const Vector<T> columns[4] = {to_cross[b] * s.y[a] - to_cross[a] * s.y[b], to_cross[a] * s.x[b] - to_cross[b] * s.x[a],
                                  perspective ? -(to_cross[k] * s.q[k]) : all(T(0)), all(T(0))};
    put_rows<T>(columns, rows[k][0]);
  }
}

// The colour of eight pixels of shaded modes: s.weight, the attributes, and what was mixed.
template <typename T, bool kProduct>
struct Shade {
  Vector<T> a[3][4], b[3][4];
  Vector<T> first[4], second[4];

  LARGESTEPS_INLINE_MEMBER void load(const Points<T>& points, const Group<T>& s) {
    load_attributes(points, s, 0, a);
    mix(s, a, first);
    if constexpr (kProduct) {
      load_attributes(points, s, 1, b);
      mix(s, b, second);
    }
  }
  LARGESTEPS_INLINE_MEMBER Vector<T> value(int c) const { return kProduct ? first[c] * second[c] : first[c]; }

  // g: of three channels.
  LARGESTEPS_INLINE_MEMBER void backward(const Group<T>& s, bool perspective, const Vector<T>* g, T (*rows)[kProduct ? 3 : 2][32]) const {
    constexpr int kPlanes = kProduct ? 3 : 2;
    Vector<T> to_first[3], to_second[3], to_weight[3];
    for (int c = 0; c < 3; ++c) {
      to_first[c] = kProduct ? g[c] * second[c] : g[c];
      if (kProduct) to_second[c] = g[c] * first[c];
    }
    for (int k = 0; k < 3; ++k) {
      to_weight[k] = to_first[0] * a[k][0] + to_first[1] * a[k][1] + to_first[2] * a[k][2];
      if (kProduct) to_weight[k] += to_second[0] * b[k][0] + to_second[1] * b[k][1] + to_second[2] * b[k][2];
    }
    weights_backward<T, kPlanes>(s, perspective, to_weight, rows);
    for (int k = 0; k < 3; ++k) {
      const Vector<T> w = s.weight[k];
      const Vector<T> columns[4] = {w * to_first[0], w * to_first[1], w * to_first[2], all(T(0))};
      put_rows<T>(columns, rows[k][1]);
      if constexpr (kProduct) {
        const Vector<T> others[4] = {w * to_second[0], w * to_second[1], w * to_second[2], all(T(0))};
        put_rows<T>(others, rows[k][2]);
      }
    }
  }
};

template <typename T>
LARGESTEPS_INLINE unsigned hits_of(const int32_t* faces, int count) {
  return bits(*reinterpret_cast<const Int8*>(faces) >= 0) & ((1u << count) - 1);
}

template <typename T>
LARGESTEPS_INLINE Mask<T> lanes_of(unsigned chosen) {
  const Int8 one = {1, 2, 4, 8, 16, 32, 64, 128};
  return as_mask<T>((one & static_cast<int32_t>(chosen)) != 0);
}

template <typename T>
void draw_shaded(const Frame<T>& frame, bool perspective, const Points<T>& points, const Pixels<T>& pixels, int row, T* to) {
  const T* background = pixels.background;
  const int32_t* faces = pixels.faces + int64_t{row} * frame.pitch;
  const Vector<T> py = all(frame.y[static_cast<size_t>(row)]);
  for (int col = 0; col < frame.width; col += 8) {
    const int count = std::min(8, frame.width - col);
    const unsigned hits = hits_of<T>(faces + col, count);
    Vector<T> color[4];
    if (!hits) {
      for (int c = 0; c < 4; ++c) color[c] = all(background[c]);
    } else {
      Group<T> s;
      load_group(points, perspective, faces + col, load(frame.x.data() + col), py, s);
      const Mask<T> hit = lanes_of<T>(hits);
      auto finish = [&](const auto& shade) {
        for (int c = 0; c < 3; ++c) color[c] = hit ? shade.value(c) : all(background[c]);
      };
      if (pixels.mode == Mode::kProduct) {
        Shade<T, true> shade;
        shade.load(points, s);
        finish(shade);
      } else {
        Shade<T, false> shade;
        shade.load(points, s);
        finish(shade);
      }
      color[3] = hit ? all(T(1)) : all(background[3]);
    }
    put_first_rows<T>(color, count, to + 4 * col);
  }
}

template <typename T>
void draw_others(const Frame<T>& frame, bool perspective, const Points<T>& points, const Pixels<T>& pixels, int row, T* to) {
  const int channels = pixels.channels;
  const int32_t* faces = pixels.faces + int64_t{row} * frame.pitch;
  const Vector<T> py = all(frame.y[static_cast<size_t>(row)]);
  for (int col = 0; col < frame.width; col += 8) {
    const int count = std::min(8, frame.width - col);
    const unsigned hits = hits_of<T>(faces + col, count);
    T* at = to + int64_t{channels} * col;
    if (!hits) {
      std::fill(at, at + count * channels, T(0));
      continue;
    }
    if (pixels.mode == Mode::kSilhouette) {
      for (int lane = 0; lane < count; ++lane) at[lane] = hits >> lane & 1 ? T(1) : T(0);
      continue;
    }
    Group<T> s;
    load_group(points, perspective, faces + col, load(frame.x.data() + col), py, s);
    for (int first = 0; first < channels; first += 4) {
      Vector<T> a[3][4], value[4];
      const int here = std::min(4, channels - first);
      if (pixels.mode == Mode::kWeights) {
        for (int k = 0; k < 3; ++k) value[k] = s.weight[k];
      } else {
        load_attributes(points, s, first / 4, a);
        mix(s, a, value);
      }
      for (int lane = 0; lane < count; ++lane) {
        for (int c = 0; c < here; ++c) at[lane * channels + first + c] = hits >> lane & 1 ? value[c][lane] : T(0);
      }
    }
  }
}

template <typename T>
void draw(const Frame<T>& frame, bool perspective, const Points<T>& points, const Pixels<T>& pixels, int first_row, int end_row,
          T* image) {
  const bool shaded = pixels.mode == Mode::kShaded || pixels.mode == Mode::kProduct;
  for (int row = first_row; row < end_row; ++row) {
    T* to = image + int64_t{row} * frame.width * pixels.channels;
    if (shaded) {
      draw_shaded(frame, perspective, points, pixels, row, to);
    } else {
      draw_others(frame, perspective, points, pixels, row, to);
    }
  }
}

// Of 4 channels; lanes from count on get zeros.
template <typename T>
LARGESTEPS_INLINE void load_pixels(const T* from, int count, Vector<T>* channels) {
  if (count == 8) return get_rows<T>(from, channels);
  alignas(64) T rows[32] = {};
  std::copy(from, from + 4 * count, rows);
  get_rows<T>(rows, channels);
}

template <typename T, bool kProduct>
void shaded_backward(const Frame<T>& frame, bool perspective, const Points<T>& points, const Pixels<T>& pixels, int first_row,
                     int end_row, const T* gradient, T* to) {
  constexpr int kPlanes = kProduct ? 3 : 2;
  Gatherer<T, kPlanes> gatherer(points, to);
  alignas(64) T rows[3][kPlanes][32];
  for (int row = first_row; row < end_row; ++row) {
    const int32_t* faces = pixels.faces + int64_t{row} * frame.pitch;
    const Vector<T> py = all(frame.y[static_cast<size_t>(row)]);
    for (int col = 0; col < frame.width; col += 8) {
      const int count = std::min(8, frame.width - col);
      if (!hits_of<T>(faces + col, count)) continue;
      Vector<T> g[4];
      load_pixels(gradient + 4 * (int64_t{row} * frame.width + col), count, g);
      Group<T> s;
      load_group(points, perspective, faces + col, load(frame.x.data() + col), py, s);
      Shade<T, kProduct> shade;
      shade.load(points, s);
      shade.backward(s, perspective, g, rows);
      gatherer.add(faces + col, rows);  // behind the row's end is no face
    }
  }
  gatherer.flush();
}

template <typename T>
void attributes_backward(const Frame<T>& frame, bool perspective, const Points<T>& points, const Pixels<T>& pixels, int first_row,
                         int end_row, const T* gradient, T* to) {
  const int channels = pixels.channels;
  for (int row = first_row; row < end_row; ++row) {
    const int32_t* faces = pixels.faces + int64_t{row} * frame.pitch;
    const Vector<T> py = all(frame.y[static_cast<size_t>(row)]);
    for (int col = 0; col < frame.width; col += 8) {
      const int count = std::min(8, frame.width - col);
      const unsigned hits = hits_of<T>(faces + col, count);
      if (!hits) continue;
      const T* from = gradient + channels * (int64_t{row} * frame.width + col);
      Group<T> s;
      load_group(points, perspective, faces + col, load(frame.x.data() + col), py, s);
      Vector<T> to_weight[3] = {all(T(0)), all(T(0)), all(T(0))};
      for (int first = 0; first < channels; first += 4) {
        Vector<T> g[4] = {all(T(0)), all(T(0)), all(T(0)), all(T(0))};
        const int here = std::min(4, channels - first);
        for (int c = 0; c < here; ++c) {
          for (int lane = 0; lane < count; ++lane) g[c][lane] = from[lane * channels + first + c];
        }
        if (pixels.mode == Mode::kWeights) {
          for (int k = 0; k < 3; ++k) to_weight[k] = g[k];
          continue;
        }
        Vector<T> a[3][4];
        load_attributes(points, s, first / 4, a);
        for (int k = 0; k < 3; ++k) {
          for (int c = 0; c < here; ++c) to_weight[k] += g[c] * a[k][c];
          for (int lane = 0; lane < count; ++lane) {
            if (!(hits >> lane & 1)) continue;
            T* at = to + (1 + first / 4) * points.plane + 4 * int64_t{s.rows[k][lane]};
            for (int c = 0; c < here; ++c) at[c] += s.weight[k][lane] * g[c][lane];
          }
        }
      }
      alignas(64) T rows[3][1][32];
      weights_backward<T, 1>(s, perspective, to_weight, rows);
      for (int k = 0; k < 3; ++k) {
        for (int lane = 0; lane < count; ++lane) {
          if (!(hits >> lane & 1)) continue;
          T* at = to + 4 * int64_t{s.rows[k][lane]};
          put_quad<T>(at, quad_at(at) + quad_at(rows[k][0] + 4 * lane));
        }
      }
    }
  }
}

template <typename T>
void draw_backward(const Frame<T>& frame, bool perspective, const Points<T>& points, const Pixels<T>& pixels, int first_row,
                   int end_row, const T* gradient, T* to) {
  switch (pixels.mode) {
    case Mode::kSilhouette:
      return;
    case Mode::kShaded:
      return shaded_backward<T, false>(frame, perspective, points, pixels, first_row, end_row, gradient, to);
    case Mode::kProduct:
      return shaded_backward<T, true>(frame, perspective, points, pixels, first_row, end_row, gradient, to);
    default:
      return attributes_backward(frame, perspective, points, pixels, first_row, end_row, gradient, to);
  }
}

// The difference of eight pixels of a row at a time from a given picture, with its derivative.

// Value and derivative of a difference.
template <typename T>
LARGESTEPS_INLINE void measure(Difference kind, T beta, Vector<T> d, Vector<T>& value, Vector<T>& slope) {
  const Vector<T> zero = all(T(0)), one = all(T(1));
  if (kind == Difference::kL2) {
    value = d * d, slope = d + d;
  } else if (kind == Difference::kL1) {
    value = absolute(d), slope = d > 0 ? one : (d < 0 ? -one : zero);
  } else {
    const Vector<T> size = absolute(d), scaled = d / beta;
    value = size < beta ? T(0.5) * d * scaled : size - T(0.5) * beta;
    slope = most(-one, least(one, scaled));
  }
}

template <typename T>
LARGESTEPS_INLINE void load_target(const Target<T>& target, int64_t pixel, int count, int channels, Vector<T>* to) {
  if (target.of_bytes) {
    const uint8_t* from = static_cast<const uint8_t*>(target.pixels) + pixel * channels;
    for (int c = 0; c < channels; ++c) {
      Vector<T> v = all(T(0));
      for (int lane = 0; lane < count; ++lane) v[lane] = static_cast<T>(from[lane * channels + c]);
      to[c] = v / T(255);
    }
  } else if (channels == 4) {
    load_pixels(static_cast<const T*>(target.pixels) + 4 * pixel, count, to);
  } else {
    const T* from = static_cast<const T*>(target.pixels) + pixel * channels;
    to[0] = all(T(0));
    for (int lane = 0; lane < count; ++lane) to[0][lane] = from[lane];
  }
}

template <typename T, bool kProduct>
double compare_rows(const Frame<T>& frame, bool perspective, const Points<T>& points, const Pixels<T>& pixels, const Target<T>& target,
                    const uint8_t* marked, int first_row, int end_row, T* to) {
  constexpr int kPlanes = kProduct ? 3 : 2;
  const bool silhouette = pixels.mode == Mode::kSilhouette;
  const int channels = silhouette ? 1 : 4;
  Gatherer<T, kPlanes> gatherer(points, to);
  alignas(64) T rows[3][kPlanes][32];
  const Vector<T> zero = all(T(0)), one = all(T(1));
  double total = 0;
  for (int row = first_row; row < end_row; ++row) {
    const int32_t* faces = pixels.faces + int64_t{row} * frame.pitch;
    const Vector<T> py = all(frame.y[static_cast<size_t>(row)]);
    Vector<T> sum = zero;
    for (int col = 0; col < frame.width; col += 8) {
      const int count = std::min(8, frame.width - col);
      const int64_t pixel = int64_t{row} * frame.width + col;
      const unsigned hits = hits_of<T>(faces + col, count);
      const Mask<T> hit = lanes_of<T>(hits);
      unsigned counted = (1u << count) - 1;
      if (marked) {
        for (int lane = 0; lane < count; ++lane) counted &= ~(static_cast<unsigned>(marked[pixel + lane] != 0) << lane);
      }
      const Mask<T> counts = lanes_of<T>(counted);
      Vector<T> given[4], weight = one;
      load_target(target, pixel, count, channels, given);
      if (target.pixel_weights) {
        for (int lane = 0; lane < 8; ++lane) weight[lane] = target.pixel_weights[pixel + std::min(lane, count - 1)];
      }
      weight = counts ? weight : zero;
      Vector<T> value, slope, loss = zero;
      if (silhouette || !hits) {
        for (int c = 0; c < channels; ++c) {
          const Vector<T> color = silhouette ? (hit ? one : zero) : all(pixels.background[c]);
          measure<T>(target.kind, target.beta, color - given[c], value, slope);
          loss += target.channel_weights[c] * value;
        }
      } else {
        Group<T> s;
        load_group(points, perspective, faces + col, load(frame.x.data() + col), py, s);
        Shade<T, kProduct> shade;
        shade.load(points, s);
        Vector<T> g[3];
        for (int c = 0; c < 4; ++c) {
          const Vector<T> inside = c < 3 ? shade.value(c) : one;
          const Vector<T> color = hit ? inside : all(pixels.background[c]);
          measure<T>(target.kind, target.beta, color - given[c], value, slope);
          loss += target.channel_weights[c] * value;
          if (c < 3) g[c] = target.channel_weights[c] * slope * weight;
        }
        if (to) {
          shade.backward(s, perspective, g, rows);
          gatherer.add(faces + col, rows);
        }
      }
      sum += counts ? loss * weight : zero;
    }
    total += static_cast<double>(sum_of_lanes<T>(sum));
  }
  if (to) gatherer.flush();
  return total;
}

template <typename T>
double compare(const Frame<T>& frame, bool perspective, const Points<T>& points, const Pixels<T>& pixels, const Target<T>& target,
               const uint8_t* marked, int first_row, int end_row, T* to) {
  if (pixels.mode == Mode::kProduct) {
    return compare_rows<T, true>(frame, perspective, points, pixels, target, marked, first_row, end_row, to);
  }
  return compare_rows<T, false>(frame, perspective, points, pixels, target, marked, first_row, end_row, to);
}

// Vectors of eight numbers, and the traffic between them and rows of the workspace. Included once per instruction set;
// everything is inlined into code of that set.

typedef float Float8 __attribute__((vector_size(32), aligned(4)));
typedef double Double8 __attribute__((vector_size(64), aligned(8)));

template <typename T>
struct VectorOf;
template <>
struct VectorOf<float> {
  using type = Float8;
};
template <>
struct VectorOf<double> {
  using type = Double8;
};
template <typename T>
using Vector = typename VectorOf<T>::type;

#define LARGESTEPS_INLINE static inline __attribute__((always_inline))

template <typename T>
LARGESTEPS_INLINE Vector<T> load(const T* p) {
  return *reinterpret_cast<const Vector<T>*>(p);
}

template <typename T>
LARGESTEPS_INLINE void store(T* p, Vector<T> v) {
  *reinterpret_cast<Vector<T>*>(p) = v;
}

// Only some compilers can concatenate two short vectors.
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#define LARGESTEPS_HAS_SHUFFLE 1
#else
#define LARGESTEPS_HAS_SHUFFLE 0
#endif

#if LARGESTEPS_HAS_SHUFFLE
#define LARGESTEPS_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t Mask4 __attribute__((vector_size(32)));
typedef int64_t Mask8 __attribute__((vector_size(64)));
LARGESTEPS_INLINE Float8 shuffle(Float8 a, Float8 b, Mask8 m) { return __builtin_shuffle(a, b, __builtin_convertvector(m, Mask4)); }
LARGESTEPS_INLINE Double8 shuffle(Double8 a, Double8 b, Mask8 m) { return __builtin_shuffle(a, b, m); }
#define LARGESTEPS_SHUFFLE(a, b, ...) shuffle(a, b, Mask8{__VA_ARGS__})
#endif

// The sums of four vectors' lanes, in the first four lanes (and again in the others).
template <typename V>
LARGESTEPS_INLINE V sum_lanes(V a, V b, V c, V d) {
  const V ab = LARGESTEPS_SHUFFLE(a, b, 0, 8, 2, 10, 4, 12, 6, 14) + LARGESTEPS_SHUFFLE(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
  const V cd = LARGESTEPS_SHUFFLE(c, d, 0, 8, 2, 10, 4, 12, 6, 14) + LARGESTEPS_SHUFFLE(c, d, 1, 9, 3, 11, 5, 13, 7, 15);
  const V abcd = LARGESTEPS_SHUFFLE(ab, cd, 0, 1, 8, 9, 4, 5, 12, 13) + LARGESTEPS_SHUFFLE(ab, cd, 2, 3, 10, 11, 6, 7, 14, 15);
  return abcd + LARGESTEPS_SHUFFLE(abcd, abcd, 4, 5, 6, 7, 0, 1, 2, 3);
}

// to[0], ..., to[W - 1] += the first lanes.
template <int W, typename T, typename V>
LARGESTEPS_INLINE void add_first(T* to, V v) {
#if LARGESTEPS_HAS_SHUFFLE
  if (W == 4) {
    typedef T Half __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T))));
    *reinterpret_cast<Half*>(to) += __builtin_shufflevector(v, v, 0, 1, 2, 3);
    return;
  }
#endif
#pragma GCC unroll 4
  for (int q = 0; q < W; ++q) to[q] += v[q];
}

template <typename T, int K>
struct Rows {
  static constexpr int kStride = K == 3 ? 4 : K;

  // Eight rows, column by column.
  LARGESTEPS_INLINE void gather(const T* workspace, const int32_t* rows, Vector<T>* columns) {
    for (int c = 0; c < K; ++c) {
      for (int lane = 0; lane < 8; ++lane) columns[c][lane] = workspace[int64_t{rows[lane]} * kStride + c];
    }
  }
  // One lane after the other: several may belong to the same row.
  LARGESTEPS_INLINE void add(T* workspace, const int32_t* rows, const Vector<T>* columns) {
    for (int lane = 0; lane < 8; ++lane) {
      for (int c = 0; c < K; ++c) workspace[int64_t{rows[lane]} * kStride + c] += columns[c][lane];
    }
  }
  LARGESTEPS_INLINE void put(T* workspace, const int32_t* rows, const Vector<T>* columns) {
    for (int lane = 0; lane < 8; ++lane) {
      for (int c = 0; c < K; ++c) workspace[int64_t{rows[lane]} * kStride + c] = columns[c][lane];
    }
  }
};

#if LARGESTEPS_HAS_SHUFFLE
// Rows of four numbers are moved as they are and transposed in registers.
template <typename T, int K>
struct QuadRows {
  using V = Vector<T>;
  typedef T Quad __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T))));

  LARGESTEPS_INLINE V pair(const T* workspace, int32_t a, int32_t b) {
    const Quad low = *reinterpret_cast<const Quad*>(workspace + int64_t{a} * 4);
    const Quad high = *reinterpret_cast<const Quad*>(workspace + int64_t{b} * 4);
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
  }
  LARGESTEPS_INLINE void gather(const T* workspace, const int32_t* rows, V* columns) {
    const V r0 = pair(workspace, rows[0], rows[4]), r1 = pair(workspace, rows[1], rows[5]);
    const V r2 = pair(workspace, rows[2], rows[6]), r3 = pair(workspace, rows[3], rows[7]);
    const V low01 = __builtin_shufflevector(r0, r1, 0, 8, 1, 9, 4, 12, 5, 13);
    const V low23 = __builtin_shufflevector(r2, r3, 0, 8, 1, 9, 4, 12, 5, 13);
    const V high01 = __builtin_shufflevector(r0, r1, 2, 10, 3, 11, 6, 14, 7, 15);
    const V high23 = __builtin_shufflevector(r2, r3, 2, 10, 3, 11, 6, 14, 7, 15);
    columns[0] = __builtin_shufflevector(low01, low23, 0, 1, 8, 9, 4, 5, 12, 13);
    columns[1] = __builtin_shufflevector(low01, low23, 2, 3, 10, 11, 6, 7, 14, 15);
    columns[2] = __builtin_shufflevector(high01, high23, 0, 1, 8, 9, 4, 5, 12, 13);
    if (K == 4) columns[3] = __builtin_shufflevector(high01, high23, 2, 3, 10, 11, 6, 7, 14, 15);
  }
  template <bool kAdd>
  LARGESTEPS_INLINE void scatter(T* workspace, const int32_t* rows, const V* columns) {
    const V last = K == 4 ? columns[K - 1] : V{};
    const V low01 = __builtin_shufflevector(columns[0], columns[1], 0, 8, 1, 9, 4, 12, 5, 13);
    const V low23 = __builtin_shufflevector(columns[2], last, 0, 8, 1, 9, 4, 12, 5, 13);
    const V high01 = __builtin_shufflevector(columns[0], columns[1], 2, 10, 3, 11, 6, 14, 7, 15);
    const V high23 = __builtin_shufflevector(columns[2], last, 2, 10, 3, 11, 6, 14, 7, 15);
    const V r0 = __builtin_shufflevector(low01, low23, 0, 1, 8, 9, 4, 5, 12, 13);
    const V r1 = __builtin_shufflevector(low01, low23, 2, 3, 10, 11, 6, 7, 14, 15);
    const V r2 = __builtin_shufflevector(high01, high23, 0, 1, 8, 9, 4, 5, 12, 13);
    const V r3 = __builtin_shufflevector(high01, high23, 2, 3, 10, 11, 6, 7, 14, 15);
    const Quad lanes[8] = {
        __builtin_shufflevector(r0, r0, 0, 1, 2, 3), __builtin_shufflevector(r1, r1, 0, 1, 2, 3),
        __builtin_shufflevector(r2, r2, 0, 1, 2, 3), __builtin_shufflevector(r3, r3, 0, 1, 2, 3),
        __builtin_shufflevector(r0, r0, 4, 5, 6, 7), __builtin_shufflevector(r1, r1, 4, 5, 6, 7),
        __builtin_shufflevector(r2, r2, 4, 5, 6, 7), __builtin_shufflevector(r3, r3, 4, 5, 6, 7)};
    for (int lane = 0; lane < 8; ++lane) {
      Quad* row = reinterpret_cast<Quad*>(workspace + int64_t{rows[lane]} * 4);
      *row = kAdd ? *row + lanes[lane] : lanes[lane];
    }
  }
  LARGESTEPS_INLINE void add(T* workspace, const int32_t* rows, const V* columns) {
    scatter<true>(workspace, rows, columns);
  }
  LARGESTEPS_INLINE void put(T* workspace, const int32_t* rows, const V* columns) {
    scatter<false>(workspace, rows, columns);
  }
};
template <>
struct Rows<float, 3> : QuadRows<float, 3> {
  static constexpr int kStride = 4;
};
template <>
struct Rows<float, 4> : QuadRows<float, 4> {
  static constexpr int kStride = 4;
};
template <>
struct Rows<double, 3> : QuadRows<double, 3> {
  static constexpr int kStride = 4;
};
template <>
struct Rows<double, 4> : QuadRows<double, 4> {
  static constexpr int kStride = 4;
};
#endif

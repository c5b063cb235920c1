// Vectors of eight numbers as the renderer needs them, on top of ../cpu/vectors.inl. Included once per instruction set.

typedef int32_t Int8 __attribute__((vector_size(32), aligned(4)));

template <typename T>
using Mask = decltype(Vector<T>{} < Vector<T>{});

typedef float FloatQuad __attribute__((vector_size(16), aligned(4)));
typedef double DoubleQuad __attribute__((vector_size(32), aligned(8)));

template <typename T>
struct QuadOf;
template <>
struct QuadOf<float> {
  using type = FloatQuad;
};
template <>
struct QuadOf<double> {
  using type = DoubleQuad;
};
template <typename T>
using Quad = typename QuadOf<T>::type;

#define LARGESTEPS_INLINE_MEMBER inline __attribute__((always_inline))

template <typename T>
LARGESTEPS_INLINE Vector<T> all(T value) {
  return Vector<T>{value, value, value, value, value, value, value, value};
}

// As std::min and std::max: the first argument if the comparison is false, so NaN in the second is dropped.
template <typename V>
LARGESTEPS_INLINE V least(V a, V b) {
  return b < a ? b : a;
}
template <typename V>
LARGESTEPS_INLINE V most(V a, V b) {
  return a < b ? b : a;
}
template <typename V>
LARGESTEPS_INLINE V absolute(V a) {
  return a < 0 ? -a : a;
}

// One bit for each lane of a mask.
LARGESTEPS_INLINE unsigned bits(Int8 mask) {
#if LARGESTEPS_VECTOR_SET >= 1
  return static_cast<unsigned>(_mm256_movemask_ps(reinterpret_cast<__m256>(mask)));
#elif LARGESTEPS_X86
  typedef int32_t Int4 __attribute__((vector_size(16)));
  Int4 halves[2];
  __builtin_memcpy(halves, &mask, 32);
  return static_cast<unsigned>(_mm_movemask_ps(reinterpret_cast<__m128>(halves[0])) |
                               _mm_movemask_ps(reinterpret_cast<__m128>(halves[1])) << 4);
#else
  const Int8 weighted = mask & Int8{1, 2, 4, 8, 16, 32, 64, 128};
  unsigned result = 0;
  for (int k = 0; k < 8; ++k) result |= static_cast<unsigned>(weighted[k]);
  return result;
#endif
}
typedef int64_t Long8 __attribute__((vector_size(64), aligned(8)));
LARGESTEPS_INLINE unsigned bits(Long8 mask) { return bits(__builtin_convertvector(mask, Int8)); }

template <typename T>
LARGESTEPS_INLINE Mask<T> as_mask(Int8 mask) {
  if constexpr (sizeof(T) == 4) {
    return mask;
  } else {
    return __builtin_convertvector(mask, Long8);
  }
}

template <typename T>
LARGESTEPS_INLINE Vector<T> as_floats(Int8 v) {
  return __builtin_convertvector(v, Vector<T>);
}
// Of numbers that an int can hold.
template <typename V>
LARGESTEPS_INLINE Int8 rounded_to_zero(V v) {
  return __builtin_convertvector(v, Int8);
}

LARGESTEPS_INLINE Int8 counting() { return Int8{0, 1, 2, 3, 4, 5, 6, 7}; }

template <typename T>
LARGESTEPS_INLINE Quad<T> quad_at(const T* p) {
  return *reinterpret_cast<const Quad<T>*>(p);
}
template <typename T>
LARGESTEPS_INLINE void put_quad(T* p, Quad<T> v) {
  *reinterpret_cast<Quad<T>*>(p) = v;
}

template <typename T>
LARGESTEPS_INLINE T sum_of_lanes(Vector<T> v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

// Four vectors, lane by lane, as eight rows of four.
template <typename T>
LARGESTEPS_INLINE void put_rows(const Vector<T>* columns, T* rows) {
  constexpr int32_t kRows[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  Rows<T, 4>::put(rows, kRows, columns);
}
template <typename T>
LARGESTEPS_INLINE void get_rows(const T* rows, Vector<T>* columns) {
  constexpr int32_t kRows[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  Rows<T, 4>::gather(rows, kRows, columns);
}

LARGESTEPS_INLINE void put_ints(int32_t* p, Int8 v) { *reinterpret_cast<Int8*>(p) = v; }

// a b + c, rounded once, on processors that can; for where torch does the same.
LARGESTEPS_INLINE Float8 fused_multiply_add(Float8 a, Float8 b, Float8 c) {
#if LARGESTEPS_VECTOR_SET >= 1
  return reinterpret_cast<Float8>(
      _mm256_fmadd_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(c)));
#else
  return a * b + c;
#endif
}
LARGESTEPS_INLINE Double8 fused_multiply_add(Double8 a, Double8 b, Double8 c) {
#if LARGESTEPS_VECTOR_SET >= 1
  __m256d x[2], y[2], z[2];
  __builtin_memcpy(x, &a, 64), __builtin_memcpy(y, &b, 64), __builtin_memcpy(z, &c, 64);
  for (int k = 0; k < 2; ++k) z[k] = _mm256_fmadd_pd(x[k], y[k], z[k]);
  __builtin_memcpy(&c, z, 64);
  return c;
#else
  return a * b + c;
#endif
}

// For the corners of the faces [first, first + count), count from 1 to 8, the rows of their points; the last face fills the lanes
// behind.
template <typename T>
LARGESTEPS_INLINE void point_rows(const Points<T>& points, int64_t first, int count, int32_t (&rows)[3][8]) {
  const int32_t* corners = points.corners + 4 * first;
  if (count == 8) {
    // four numbers of a face as they lie, moved and transposed like any rows of four
    Float8 columns[4];
    get_rows<float>(reinterpret_cast<const float*>(corners), columns);
    for (int k = 0; k < 3; ++k) put_ints(rows[k], reinterpret_cast<Int8>(columns[k]) + points.shift);
    return;
  }
  for (int lane = 0; lane < 8; ++lane) {
    const int32_t* c = corners + 4 * std::min(lane, count - 1);
    for (int k = 0; k < 3; ++k) rows[k][lane] = c[k] + points.shift;
  }
}

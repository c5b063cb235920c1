// The inner loops of the factorisation, in double precision.

#if defined(__AVX512F__)
#define LARGESTEPS_BLOCK 2  // blocks of eight rows whose sums stay in registers: there are 32
#else
#define LARGESTEPS_BLOCK 1
#endif

template <int B, int C>
LARGESTEPS_INLINE void update_tile(double* front, int64_t ld, const double* scaled, const double* rows, int32_t depth) {
  Double8 sum[B][C];
#pragma GCC unroll 4
  for (int b = 0; b < B; ++b) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) sum[b][c] = load(front + c * ld + b * 8);
  }
  for (int32_t k = 0; k < depth; ++k) {
    Double8 a[B];
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) a[b] = load(scaled + (int64_t{b} * depth + k) * 8);
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const double factor = rows[c * depth + k];
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) sum[b][c] -= a[b] * factor;
    }
  }
#pragma GCC unroll 4
  for (int b = 0; b < B; ++b) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) store(front + c * ld + b * 8, sum[b][c]);
  }
}

template <int C>
LARGESTEPS_INLINE void update_columns(double* front, int64_t ld, int64_t column, const double* scaled,
                                      const double* rows, int32_t depth) {
  int64_t row = column / 8 * 8;
  for (; row + 8 * LARGESTEPS_BLOCK <= ld; row += 8 * LARGESTEPS_BLOCK) {
    update_tile<LARGESTEPS_BLOCK, C>(front + column * ld + row, ld, scaled + row * depth, rows + column * depth, depth);
  }
  for (; row < ld; row += 8) {
    update_tile<1, C>(front + column * ld + row, ld, scaled + row * depth, rows + column * depth, depth);
  }
}

static void update(double* front, int64_t ld, int64_t begin, int64_t end, const double* scaled, const double* rows,
                   int32_t depth) {
  int64_t column = begin;
  for (; column + 4 <= end; column += 4) update_columns<4>(front, ld, column, scaled, rows, depth);
  for (; column < end; ++column) update_columns<1>(front, ld, column, scaled, rows, depth);
}

static void scale(double* scaled, const double* tiles, const double* matrix, int64_t begin, int64_t end, int32_t depth) {
  for (int64_t tile = begin; tile < end; ++tile) {
    const double* from = tiles + tile * depth * 8;
    double* to = scaled + tile * depth * 8;
    for (int32_t column = 0; column < depth; column += 4) {
      const int32_t width = depth - column < 4 ? depth - column : 4;
      Double8 sum[4] = {};
      for (int32_t k = 0; k < depth; ++k) {
        const Double8 a = load(from + k * 8);
        for (int32_t c = 0; c < width; ++c) sum[c] += a * matrix[(column + c) * depth + k];
      }
      for (int32_t c = 0; c < width; ++c) store(to + (column + c) * 8, sum[c]);
    }
  }
}

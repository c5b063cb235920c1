// The inner loops of the factorisation, in double precision.

#if defined(__AVX512F__)
#define LARGESTEPS_BLOCK 2  // blocks of eight rows whose sums stay in registers: there are 32
#else
#define LARGESTEPS_BLOCK 1
#endif

// Of a symmetric block stored in full, rows of N vectors: the sweep operator on its first depth rows and columns.
template <int N>
LARGESTEPS_INLINE int32_t invert_block(double* block, int32_t depth, const double* smallest) {
  Double8 row[N];
  for (int32_t p = 0; p < depth; ++p) {
    double* const pivot_row = block + p * kMaxDepth;
    const double pivot = pivot_row[p];
    if (!(pivot > smallest[p])) return p;
    const double inverse = 1.0 / pivot;
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) row[v] = load(pivot_row + v * 8);
    for (int32_t i = 0; i < depth; ++i) {
      double* const to = block + i * kMaxDepth;
      const double factor = to[p] * inverse;
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) store(to + v * 8, load(to + v * 8) - factor * row[v]);
      to[p] = factor;
    }
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) store(pivot_row + v * 8, row[v] * inverse);
    pivot_row[p] = -inverse;
  }
  return -1;
}

static int32_t invert(double* block, int32_t depth, const double* smallest) {
  return depth <= 8 ? invert_block<1>(block, depth, smallest)
                    : depth <= 16 ? invert_block<2>(block, depth, smallest) : invert_block<3>(block, depth, smallest);
}
static_assert(kMaxDepth == 24, "three vectors");

// One number of the pivots' columns, which below their own rows are stored as columns, above as rows.
LARGESTEPS_INLINE double& at_pivots(double* front, int64_t ld, int64_t row, int64_t column) {
  return row < column ? front[row * ld + column] : front[column * ld + row];
}

static void gather(double* tiles, double* front, int64_t ld, int64_t begin, int32_t depth) {
  const int64_t end = begin + depth;
  for (int64_t row = 0; row < ld; row += 8, tiles += depth * 8) {
    if (row >= end) {
      for (int32_t k = 0; k < depth; ++k) store(tiles + k * 8, load(front + (begin + k) * ld + row));
      continue;
    }
    for (int32_t k = 0; k < depth; ++k) {
      for (int64_t i = row; i < row + 8; ++i) {
        tiles[k * 8 + i - row] = i >= begin && i < end ? 0.0 : at_pivots(front, ld, i, begin + k);
      }
    }
  }
}

static void scatter(double* front, const double* tiles, int64_t ld, int64_t begin, int32_t depth) {
  const int64_t end = begin + depth;
  for (int64_t row = 0; row < ld; row += 8, tiles += depth * 8) {
    if (row >= end) {
      for (int32_t k = 0; k < depth; ++k) store(front + (begin + k) * ld + row, load(tiles + k * 8));
      continue;
    }
    for (int32_t k = 0; k < depth; ++k) {
      for (int64_t i = row; i < row + 8; ++i) {
        if (i < begin || i >= end) at_pivots(front, ld, i, begin + k) = tiles[k * 8 + i - row];
      }
    }
  }
}

template <int B>
LARGESTEPS_INLINE void scale_tiles(double* scaled, const double* tiles, const double* matrix, int32_t depth) {
  for (int32_t column = 0; column < depth; column += 4) {
    Double8 sum[B][4] = {};
    for (int32_t k = 0; k < depth; ++k) {
      const double* const factors = matrix + k * kMaxDepth + column;
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) {
        const Double8 a = load(tiles + (int64_t{b} * depth + k) * 8);
#pragma GCC unroll 4
        for (int c = 0; c < 4; ++c) sum[b][c] -= a * factors[c];
      }
    }
    const int32_t width = depth - column < 4 ? depth - column : 4;
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) {
      double* const to = scaled + (int64_t{b} * depth + column) * 8;
      for (int32_t c = 0; c < width; ++c) store(to + c * 8, sum[b][c]);
    }
  }
}

static void scale(double* scaled, const double* tiles, const double* matrix, int64_t num_tiles, int32_t depth) {
  int64_t tile = 0;
  for (; tile + LARGESTEPS_BLOCK <= num_tiles; tile += LARGESTEPS_BLOCK) {
    scale_tiles<LARGESTEPS_BLOCK>(scaled + tile * depth * 8, tiles + tile * depth * 8, matrix, depth);
  }
  for (; tile < num_tiles; ++tile) scale_tiles<1>(scaled + tile * depth * 8, tiles + tile * depth * 8, matrix, depth);
}

template <int B, int C>
LARGESTEPS_INLINE void update_tile(double* front, int64_t ld, const double* scaled, const double* factors, int32_t depth) {
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
      const double factor = factors[k * 8 + c];
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
                                      const double* tiles, int32_t depth) {
  const double* const factors = tiles + column / 8 * depth * 8 + column % 8;
  int64_t row = column / 8 * 8;
  for (; row + 8 * LARGESTEPS_BLOCK <= ld; row += 8 * LARGESTEPS_BLOCK) {
    update_tile<LARGESTEPS_BLOCK, C>(front + column * ld + row, ld, scaled + row * depth, factors, depth);
  }
  for (; row < ld; row += 8) {
    update_tile<1, C>(front + column * ld + row, ld, scaled + row * depth, factors, depth);
  }
}

static void update(double* front, int64_t ld, int64_t begin, int64_t end, const double* scaled, const double* tiles,
                   int32_t depth) {
  int64_t column = begin;
  for (; column + 4 <= end; column += 4) update_columns<4>(front, ld, column, scaled, tiles, depth);
  for (; column < end; ++column) update_columns<1>(front, ld, column, scaled, tiles, depth);
}

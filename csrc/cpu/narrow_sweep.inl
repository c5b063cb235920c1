// The sweeps for K columns, few enough that vectors lie along the factor: in a batch a lane is a supernode, in a single
// supernode a row. A panel's products are the same in both; see layout.h.

template <typename T, int K>
struct Panels {
  using V = Vector<T>;

  // The factor is read from one end to the other, so it is prefetched some distance ahead.
  template <int W>
  LARGESTEPS_INLINE void prefetch_ahead(const V* p) {
    const char* const ahead = reinterpret_cast<const char*>(p) + 1024;
    for (size_t line = 0; line < W * sizeof(V); line += 64) __builtin_prefetch(ahead + line);
  }

  // rows_sum (num_rows, K) += panel of -P (num_rows, W) times b (W, K).
  template <int W>
  LARGESTEPS_INLINE void forward(const V* p, int32_t num_rows, const V (&b)[W][K], V* rows_sum) {
    for (int32_t i = 0; i < num_rows; ++i, p += W, rows_sum += K) {
      prefetch_ahead<W>(p);
      V sum[K];
#pragma GCC unroll 4
      for (int c = 0; c < K; ++c) sum[c] = rows_sum[c];
#pragma GCC unroll 4
      for (int q = 0; q < W; ++q) {
#pragma GCC unroll 4
        for (int c = 0; c < K; ++c) sum[c] += p[q] * b[q][c];
      }
#pragma GCC unroll 4
      for (int c = 0; c < K; ++c) rows_sum[c] = sum[c];
    }
  }

  // sum (W, K) += panel' (num_rows, W) times v (num_rows, K): of -P, or of the diagonal part of G.
  template <int W>
  LARGESTEPS_INLINE void transposed(const V* p, int32_t num_rows, const V* v, V (&sum)[W][K]) {
    for (int32_t i = 0; i < num_rows; ++i, p += W, v += K) {
      prefetch_ahead<W>(p);
#pragma GCC unroll 4
      for (int q = 0; q < W; ++q) {
#pragma GCC unroll 4
        for (int c = 0; c < K; ++c) sum[q][c] += p[q] * v[c];
      }
    }
  }

  // Of the rows of G below the diagonal part both: sum += panel' z, and x (num_rows, K) += panel z_own.
  template <int W>
  LARGESTEPS_INLINE void symmetric(const V* p, int32_t num_rows, const V* z, const V (&z_own)[W][K], V* x,
                                   V (&sum)[W][K]) {
    for (int32_t i = 0; i < num_rows; ++i, p += W, z += K, x += K) {
      prefetch_ahead<W>(p);
      V x_i[K];
#pragma GCC unroll 4
      for (int c = 0; c < K; ++c) x_i[c] = x[c];
#pragma GCC unroll 4
      for (int q = 0; q < W; ++q) {
#pragma GCC unroll 4
        for (int c = 0; c < K; ++c) {
          sum[q][c] += p[q] * z[c];
          x_i[c] += p[q] * z_own[q][c];
        }
      }
#pragma GCC unroll 4
      for (int c = 0; c < K; ++c) x[c] = x_i[c];
    }
  }
};

// Calls body with the widths of the panels as constants.
template <template <int> class Body, typename... Arguments>
LARGESTEPS_INLINE void for_each_panel(int32_t n, Arguments... arguments) {
  int32_t first = 0;
  for (; first + kPanel <= n; first += kPanel) Body<4>::run(first, arguments...);
  switch (n - first) {
    case 1: Body<1>::run(first, arguments...); break;
    case 2: Body<2>::run(first, arguments...); break;
    case 3: Body<3>::run(first, arguments...); break;
    default: break;
  }
}

template <typename T, int K>
struct Batch {
  using V = Vector<T>;

  template <int W>
  struct Forward {
    LARGESTEPS_INLINE void run(int32_t first, const V* p, int32_t r, const V* b, V* rows_sum) {
      V own[W][K];
#pragma GCC unroll 4
      for (int q = 0; q < W; ++q) {
#pragma GCC unroll 4
        for (int c = 0; c < K; ++c) own[q][c] = b[(first + q) * K + c];
      }
      Panels<T, K>::template forward<W>(p + int64_t{r} * first, r, own, rows_sum);
    }
  };

  static void forward(const T*, const T* p, int32_t n, int32_t r, const int32_t* indices, T* workspace, T* scratch) {
    if (r == 0) return;
    V* const b = reinterpret_cast<V*>(scratch);
    V* const rows_sum = b + n * K;
    for (int32_t j = 0; j < n; ++j) Rows<T, K>::gather(workspace, indices + j * 8, b + j * K);
    for (int32_t i = 0; i < r * K; ++i) rows_sum[i] = V{};
    for_each_panel<Forward>(n, reinterpret_cast<const V*>(p), r, static_cast<const V*>(b), rows_sum);
    for (int32_t i = 0; i < r; ++i) Rows<T, K>::add(workspace, indices + (n + i) * 8, rows_sum + i * K);
  }

  template <int W>
  struct Backward {
    LARGESTEPS_INLINE void run(int32_t first, const V* all_g, const V* all_p, const BatchLayout* layout, const V* z, V* x) {
      V sum[W][K], own[W][K];
#pragma GCC unroll 4
      for (int q = 0; q < W; ++q) {
#pragma GCC unroll 4
        for (int c = 0; c < K; ++c) {
          sum[q][c] = x[(first + q) * K + c];
          own[q][c] = z[(first + q) * K + c];
        }
      }
      const int32_t n = layout->n, below = first + W;
      const V* const g = all_g + layout->panel_g(first);
      Panels<T, K>::template transposed<W>(g, W, z + first * K, sum);
      Panels<T, K>::template symmetric<W>(g + W * W, n - below, z + below * K, own, x + below * K, sum);
      Panels<T, K>::template transposed<W>(all_p + layout->panel_p(first), layout->r, z + n * K, sum);
#pragma GCC unroll 4
      for (int q = 0; q < W; ++q) {
#pragma GCC unroll 4
        for (int c = 0; c < K; ++c) x[(first + q) * K + c] = sum[q][c];
      }
    }
  };

  static void backward(const T* g, const T* p, int32_t n, int32_t r, const int32_t* indices, T* workspace, T* scratch) {
    V* const z = reinterpret_cast<V*>(scratch);  // of the columns, and behind them x of the rows
    V* const x = z + (n + r) * K;
    for (int32_t j = 0; j < n + r; ++j) Rows<T, K>::gather(workspace, indices + j * 8, z + j * K);
    for (int32_t j = 0; j < n * K; ++j) x[j] = V{};
    const BatchLayout layout(n, r);
    for_each_panel<Backward>(n, reinterpret_cast<const V*>(g), reinterpret_cast<const V*>(p), &layout, static_cast<const V*>(z), x);
    for (int32_t j = 0; j < n; ++j) Rows<T, K>::put(workspace, indices + j * 8, x + j * K);
  }
};

template <typename T, int K>
struct Single {
  using V = Vector<T>;

  template <int W>
  struct Forward {
    LARGESTEPS_INLINE void run(int32_t first, const V* p, int32_t blocks, const T* workspace, const int32_t* indices,
                               V* rows_sum) {
      V own[W][K];
#pragma GCC unroll 4
      for (int q = 0; q < W; ++q) {
        const T* const row = workspace + int64_t{indices[first + q]} * Rows<T, K>::kStride;
#pragma GCC unroll 4
        for (int c = 0; c < K; ++c) own[q][c] = V{} + row[c];
      }
      Panels<T, K>::template forward<W>(p + int64_t{blocks} * first, blocks, own, rows_sum);
    }
  };

  static void forward(const T*, const T* p, int32_t n, int32_t r, const int32_t* indices, T* workspace, T* scratch) {
    const int32_t blocks = num_blocks(r);
    V* const rows_sum = reinterpret_cast<V*>(scratch);
    for (int32_t i = 0; i < blocks * K; ++i) rows_sum[i] = V{};
    for_each_panel<Forward>(n, reinterpret_cast<const V*>(p), blocks, static_cast<const T*>(workspace), indices, rows_sum);
    const int32_t* const rows = indices + num_blocks(n) * 8;
    for (int32_t i = 0; i < blocks; ++i) Rows<T, K>::add(workspace, rows + i * 8, rows_sum + i * K);
  }

  template <int W>
  struct Backward {
    LARGESTEPS_INLINE void run(int32_t first, const V* all_g, const V* all_p, const SingleLayout* layout,
                               const T* workspace, const int32_t* indices, const V* z, V* x) {
      V sum[W][K] = {}, own[W][K];
#pragma GCC unroll 4
      for (int q = 0; q < W; ++q) {
        const T* const row = workspace + int64_t{indices[first + q]} * Rows<T, K>::kStride;
#pragma GCC unroll 4
        for (int c = 0; c < K; ++c) own[q][c] = V{} + row[c];
      }
      const int32_t block = first / 8, blocks = num_blocks(layout->n);
      const V* const g = all_g + layout->panel_g(first);
      Panels<T, K>::template transposed<W>(g, 1, z + block * K, sum);
      Panels<T, K>::template symmetric<W>(g + W, blocks - block - 1, z + (block + 1) * K, own, x + (block + 1) * K, sum);
      Panels<T, K>::template transposed<W>(all_p + layout->panel_p(first), num_blocks(layout->r), z + blocks * K, sum);
#pragma GCC unroll 4
      for (int c = 0; c < K; ++c) {
        const V zero = {};
        const V sums = sum_lanes<V>(sum[0][c], W > 1 ? sum[W > 1][c] : zero, W > 2 ? sum[W > 2 ? 2 : 0][c] : zero,
                                    W > 3 ? sum[W > 3 ? 3 : 0][c] : zero);
        add_first<W>(reinterpret_cast<T*>(x + block * K + c) + first % 8, sums);
      }
    }
  };

  static void backward(const T* g, const T* p, int32_t n, int32_t r, const int32_t* indices, T* workspace, T* scratch) {
    const int32_t blocks = num_blocks(n), all_blocks = blocks + num_blocks(r);
    V* const z = reinterpret_cast<V*>(scratch);  // of the columns, and behind them x of the rows
    V* const x = z + all_blocks * K;
    for (int32_t i = 0; i < all_blocks; ++i) Rows<T, K>::gather(workspace, indices + i * 8, z + i * K);
    for (int32_t i = 0; i < blocks * K; ++i) x[i] = V{};
    const SingleLayout layout(n, r);
    for_each_panel<Backward>(n, reinterpret_cast<const V*>(g), reinterpret_cast<const V*>(p), &layout, static_cast<const T*>(workspace), indices,
                             static_cast<const V*>(z), x);
    for (int32_t i = 0; i < blocks; ++i) Rows<T, K>::put(workspace, indices + i * 8, x + i * K);
  }
};

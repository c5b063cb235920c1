// The sweeps for many columns: vectors lie along the columns, and supernodes are visited one by one, also those of a batch. A
// row of the workspace is S vectors wide, of which M are processed at once: as many as fit into the registers with the sums.

// The differences between a batch and a single supernode: the offset of a number in its panel, and its row of the workspace.
template <int W>
struct BatchAccess {
  static constexpr int kRows = 1;  // what one step in the rows of a panel covers
  static int64_t at(int32_t i, int q) { return 8 * (int64_t{i} * W + q); }
};
template <int W>
struct SingleAccess {
  static constexpr int kRows = 8;
  static int64_t at(int32_t i, int q) { return 8 * (int64_t{i / 8} * W + q) + i % 8; }
};

template <typename T, int M, int S, typename Layout, template <int> class Access, int kIndexStride>
struct WideGroup {
  using V = Vector<T>;

  LARGESTEPS_INLINE T* row(T* workspace, int32_t index) { return workspace + int64_t{index} * (8 * S); }

  template <int W>
  struct Forward {
    LARGESTEPS_INLINE void run(int32_t first, const T* all_p, const Layout* layout, const int32_t* columns,
                               const int32_t* rows, T* workspace) {
      V b[W][M];
#pragma GCC unroll 4
      for (int q = 0; q < W; ++q) {
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) b[q][m] = load(row(workspace, columns[(first + q) * kIndexStride]) + 8 * m);
      }
      const T* const p = all_p + 8 * layout->panel_p(first);
      for (int32_t i = 0; i < layout->r; ++i) {
        T* const u = row(workspace, rows[i * kIndexStride]);
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
          V sum = load(u + 8 * m);
#pragma GCC unroll 4
          for (int q = 0; q < W; ++q) sum += p[Access<W>::at(i, q)] * b[q][m];
          store(u + 8 * m, sum);
        }
      }
    }
  };

  template <int W>
  struct Backward {
    LARGESTEPS_INLINE void run(int32_t first, const T* all_g, const T* all_p, const Layout* layout,
                               const int32_t* columns, const int32_t* rows, T* workspace, T* x) {
      V sum[W][M], z[W][M];
#pragma GCC unroll 4
      for (int q = 0; q < W; ++q) {
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
          sum[q][m] = load(row(x, first + q) + 8 * m);
          z[q][m] = load(row(workspace, columns[(first + q) * kIndexStride]) + 8 * m);
        }
      }
      const int32_t begin = Layout::first_row(first), n = layout->n, r = layout->r;
      const int32_t below = begin + (Access<W>::kRows > W ? Access<W>::kRows : W);
      const T* const g = all_g + 8 * layout->panel_g(first);
      for (int32_t i = begin; i < n; ++i) {
        const T* const z_i = row(workspace, columns[i * kIndexStride]);
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
          const V v = load(z_i + 8 * m);
#pragma GCC unroll 4
          for (int q = 0; q < W; ++q) sum[q][m] += g[Access<W>::at(i - begin, q)] * v;
        }
        if (i < below) continue;
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
          V v = load(row(x, i) + 8 * m);
#pragma GCC unroll 4
          for (int q = 0; q < W; ++q) v += g[Access<W>::at(i - begin, q)] * z[q][m];
          store(row(x, i) + 8 * m, v);
        }
      }
      const T* const p = all_p + 8 * layout->panel_p(first);
      for (int32_t i = 0; i < r; ++i) {
        const T* const x_i = row(workspace, rows[i * kIndexStride]);
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
          const V v = load(x_i + 8 * m);
#pragma GCC unroll 4
          for (int q = 0; q < W; ++q) sum[q][m] += p[Access<W>::at(i, q)] * v;
        }
      }
#pragma GCC unroll 4
      for (int q = 0; q < W; ++q) {
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) store(row(x, first + q) + 8 * m, sum[q][m]);
      }
    }
  };

  static void forward(const T* p, const Layout& layout, const int32_t* columns, const int32_t* rows, T* workspace) {
    for_each_panel<Forward>(layout.n, p, &layout, columns, rows, workspace);
  }

  static void backward(const T* g, const T* p, const Layout& layout, const int32_t* columns, const int32_t* rows,
                       T* workspace, T* x) {
    for (int32_t j = 0; j < layout.n; ++j) {
      for (int m = 0; m < M; ++m) store(row(x, j) + 8 * m, V{});
    }
    for_each_panel<Backward>(layout.n, g, p, &layout, columns, rows, workspace, x);
    for (int32_t j = 0; j < layout.n; ++j) {
      for (int m = 0; m < M; ++m) store(row(workspace, columns[j * kIndexStride]) + 8 * m, load(row(x, j) + 8 * m));
    }
  }
};

// Calls body(m) for the vectors m, ..., m + M - 1 of a row, until all S are done.
template <int M, int S, typename Body>
LARGESTEPS_INLINE void for_vectors(Body body) {
  for (int m = 0; m < S; m += M) body(m);
}

template <typename T, int S>
struct WideBatch {
  static constexpr int M = S < kWideVectors ? S : kWideVectors;
  using Group = WideGroup<T, M, S, BatchLayout, BatchAccess, 8>;

  static void forward(const T*, const T* p, int32_t n, int32_t r, const int32_t* indices, T* workspace, T*) {
    for (int lane = 0; lane < 8; ++lane) {
      for_vectors<M, S>([&](int m) {
        Group::forward(p + lane, BatchLayout(n, r), indices + lane, indices + n * 8 + lane, workspace + 8 * m);
      });
    }
  }
  static void backward(const T* g, const T* p, int32_t n, int32_t r, const int32_t* indices, T* workspace, T* scratch) {
    for (int lane = 0; lane < 8; ++lane) {
      for_vectors<M, S>([&](int m) {
        Group::backward(g + lane, p + lane, BatchLayout(n, r), indices + lane, indices + n * 8 + lane, workspace + 8 * m,
                        scratch + 8 * m);
      });
    }
  }
};

template <typename T, int S>
struct WideSingle {
  static constexpr int M = S < kWideVectors ? S : kWideVectors;
  using Group = WideGroup<T, M, S, SingleLayout, SingleAccess, 1>;

  static void forward(const T*, const T* p, int32_t n, int32_t r, const int32_t* indices, T* workspace, T*) {
    for_vectors<M, S>(
        [&](int m) { Group::forward(p, SingleLayout(n, r), indices, indices + round_up(n), workspace + 8 * m); });
  }
  static void backward(const T* g, const T* p, int32_t n, int32_t r, const int32_t* indices, T* workspace, T* scratch) {
    for_vectors<M, S>([&](int m) {
      Group::backward(g, p, SingleLayout(n, r), indices, indices + round_up(n), workspace + 8 * m, scratch + 8 * m);
    });
  }
};

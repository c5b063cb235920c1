#include "front.h"

#include <algorithm>

#include "../core/layout.h"
#include "../core/parallel.h"
#include "kernels.h"

namespace largesteps {
namespace {

// Columns eliminated together.
constexpr int32_t kDepth = 16;
// A pivot this much smaller than the diagonal of the matrix is rounding error.
constexpr double kSmallestPivot = 1e-14;
// Fronts of at least so many columns and rows are shared between threads, so many columns at a time.
constexpr int64_t kSharedFront = 384;
constexpr int64_t kSharedColumns = 32;

}  // namespace

template <typename T>
void Front::assemble(const IndexView& index, int32_t s, const T* values) {
  const int32_t first = index[kFirst][s], end = index[kFirst][s + 1];
  const int32_t* rows = index[kRows] + index[kRowStart][s];
  n_ = end - first;
  m_ = int64_t{n_} + index.num_rows(s);
  ld_ = round_up(m_);
  values_.assign(static_cast<size_t>(ld_ * m_), 0.0);
  diagonal_.resize(static_cast<size_t>(n_));
  place_.resize(static_cast<size_t>(index[kNumVerts]));
  for (int32_t k = 0; k < index.num_rows(s); ++k) place_[static_cast<size_t>(rows[k])] = n_ + k;
  for (int32_t column = first; column < end; ++column) {
    const int32_t vertex = index[kOldFromNew][column];
    double* const to = values_.data() + (column - first) * ld_;
    for (int32_t k = index[kCrow][vertex]; k < index[kCrow][vertex + 1]; ++k) {
      const int32_t row = index[kNewFromOld][index[kEntryColumns][k]];
      if (row >= column) to[row < end ? row - first : place_[static_cast<size_t>(row)]] = static_cast<double>(values[k]);
    }
    diagonal_[static_cast<size_t>(column - first)] = to[column - first];
  }
}

template void Front::assemble<float>(const IndexView&, int32_t, const float*);
template void Front::assemble<double>(const IndexView&, int32_t, const double*);

void Front::add(const double* complement, const int32_t* rows_in_front, int32_t r) {
  for (int32_t j = 0; j < r; ++j, complement += r) {
    double* const to = values_.data() + rows_in_front[j] * ld_;
    for (int32_t i = j; i < r; ++i) to[rows_in_front[i]] += complement[i];
  }
}

// inverse_ = the inverse of the pivot block (depth, depth), in full.
int32_t Front::invert_pivots(int32_t begin, int32_t depth) {
  double block[kDepth][kDepth];
  for (int32_t j = 0; j < depth; ++j) {
    for (int32_t i = j; i < depth; ++i) block[i][j] = block[j][i] = at(begin + i, begin + j);
  }
  for (int32_t p = 0; p < depth; ++p) {
    const double pivot = block[p][p];
    if (!(pivot > kSmallestPivot * diagonal_[static_cast<size_t>(begin + p)])) {
      pivot_ = pivot;
      return begin + p;
    }
    const double inverse = 1.0 / pivot;
    double row[kDepth];
    for (int32_t j = 0; j < depth; ++j) row[j] = block[p][j];
    for (int32_t i = 0; i < depth; ++i) {
      const double factor = row[i] * inverse;
      for (int32_t j = 0; j < depth; ++j) block[i][j] -= factor * row[j];
    }
    for (int32_t j = 0; j < depth; ++j) block[p][j] = block[j][p] = row[j] * inverse;
    block[p][p] = -inverse;
  }
  inverse_.resize(static_cast<size_t>(depth * depth));
  for (int32_t j = 0; j < depth; ++j) {
    for (int32_t i = 0; i < depth; ++i) inverse_[static_cast<size_t>(j * depth + i)] = -block[i][j];
  }
  return -1;
}

// The columns of the pivots over all rows of the front, as tiles of eight rows and row by row; zero at the pivots.
void Front::gather_rows(int32_t begin, int32_t depth) {
  const int64_t end = int64_t{begin} + depth;
  tiles_.assign(static_cast<size_t>(ld_ * depth), 0.0);
  rows_.assign(static_cast<size_t>(ld_ * depth), 0.0);
  for (int64_t i = 0; i < begin; ++i) {
    const double* const from = values_.data() + i * ld_ + begin;
    double* const tile = tiles_.data() + i / 8 * depth * 8 + i % 8;
    for (int32_t k = 0; k < depth; ++k) {
      rows_[static_cast<size_t>(i * depth + k)] = from[k];
      tile[k * 8] = from[k];
    }
  }
  for (int32_t k = 0; k < depth; ++k) {
    const double* const from = values_.data() + (begin + k) * ld_;
    for (int64_t i = end; i < m_; ++i) {
      rows_[static_cast<size_t>(i * depth + k)] = from[i];
      tiles_[static_cast<size_t>((i / 8 * depth + k) * 8 + i % 8)] = from[i];
    }
  }
}

int32_t Front::eliminate(int num_threads) {
  const DenseKernels& dense = kernels().dense;
  const bool shared = num_threads > 1 && m_ >= kSharedFront;
  for (int32_t begin = 0; begin < n_; begin += kDepth) {
    const int32_t depth = std::min(kDepth, n_ - begin);
    const int32_t broken = invert_pivots(begin, depth);
    if (broken >= 0) return broken;
    gather_rows(begin, depth);
    scaled_.resize(static_cast<size_t>(ld_ * depth));
    dense.scale(scaled_.data(), tiles_.data(), inverse_.data(), 0, ld_ / 8, depth);
    if (shared) {
      parallel_for((m_ + kSharedColumns - 1) / kSharedColumns, num_threads, [&](int64_t part) {
        const int64_t from = part * kSharedColumns;
        dense.update(values_.data(), ld_, from, std::min(m_, from + kSharedColumns), scaled_.data(), rows_.data(), depth);
      });
    } else {
      dense.update(values_.data(), ld_, 0, m_, scaled_.data(), rows_.data(), depth);
    }
    for (int64_t i = 0; i < m_; ++i) {
      const double* const tile = scaled_.data() + i / 8 * depth * 8 + i % 8;
      if (i < begin) {
        for (int32_t k = 0; k < depth; ++k) values_[static_cast<size_t>(i * ld_ + begin + k)] = tile[k * 8];
      } else if (i >= begin + depth) {
        for (int32_t k = 0; k < depth; ++k) values_[static_cast<size_t>((begin + k) * ld_ + i)] = tile[k * 8];
      }
    }
    for (int32_t j = 0; j < depth; ++j) {
      for (int32_t i = j; i < depth; ++i) {
        values_[static_cast<size_t>((begin + j) * ld_ + begin + i)] = -inverse_[static_cast<size_t>(j * depth + i)];
      }
    }
  }
  return -1;
}

void Front::copy_complement(double* complement) const {
  const int64_t r = m_ - n_;
  for (int64_t j = 0; j < r; ++j) {
    const double* const from = values_.data() + (n_ + j) * ld_ + n_;
    std::copy(from + j, from + r, complement + j * r + j);
  }
}

}  // namespace largesteps

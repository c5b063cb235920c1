#include "front.h"

#include <algorithm>
#include <iterator>

#include "../structure/layout.h"
#include "../threads/parallel.h"

namespace largesteps {
namespace {

// A pivot this much smaller than the diagonal of the matrix is rounding error.
constexpr double kSmallestPivot = 1e-14;
// Threads share fronts of at least this many columns and rows, this many columns at a time.
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
  if (values_.size() < static_cast<size_t>(ld_ * m_)) values_.resize(static_cast<size_t>(ld_ * m_));
  for (int64_t column = 0; column < m_; ++column) {  // whole tiles of rows, as the kernels work on them
    double* const to = values_.data() + column * ld_;
    std::fill(to + column / 8 * 8, to + ld_, 0.0);
  }
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

int32_t Front::invert_pivots(int32_t begin, int32_t depth) {
  double smallest[kMaxDepth];
  std::fill(std::begin(inverse_), std::end(inverse_), 0.0);
  for (int32_t j = 0; j < depth; ++j) {
    smallest[j] = kSmallestPivot * diagonal_[static_cast<size_t>(begin + j)];
    for (int32_t i = j; i < depth; ++i) {
      inverse_[i * kMaxDepth + j] = inverse_[j * kMaxDepth + i] = at(begin + i, begin + j);
    }
  }
  const int32_t broken = kernels().dense.invert(inverse_, depth, smallest);
  if (broken < 0) return -1;
  pivot_ = inverse_[broken * kMaxDepth + broken];
  return begin + broken;
}

int32_t Front::eliminate(int num_threads) {
  const DenseKernels& dense = kernels().dense;
  const bool shared = num_threads > 1 && m_ >= kSharedFront;
  const int32_t num_parts = (n_ + kMaxDepth - 1) / kMaxDepth;
  for (int32_t part = 0; part < num_parts; ++part) {
    const int32_t begin = part * n_ / num_parts, depth = (part + 1) * n_ / num_parts - begin;
    const int32_t broken = invert_pivots(begin, depth);
    if (broken >= 0) return broken;
    tiles_.resize(std::max(tiles_.size(), static_cast<size_t>(ld_ * depth)));
    scaled_.resize(tiles_.size());
    dense.gather(tiles_.data(), values_.data(), ld_, begin, depth);
    dense.scale(scaled_.data(), tiles_.data(), inverse_, ld_ / 8, depth);
    if (shared) {
      parallel_for((m_ + kSharedColumns - 1) / kSharedColumns, num_threads, [&](int64_t item) {
        const int64_t from = item * kSharedColumns;
        dense.update(values_.data(), ld_, from, std::min(m_, from + kSharedColumns), scaled_.data(), tiles_.data(), depth);
      });
    } else {
      dense.update(values_.data(), ld_, 0, m_, scaled_.data(), tiles_.data(), depth);
    }
    dense.scatter(values_.data(), scaled_.data(), ld_, begin, depth);
    for (int32_t j = 0; j < depth; ++j) {
      for (int32_t i = j; i < depth; ++i) {
        values_[static_cast<size_t>((begin + j) * ld_ + begin + i)] = inverse_[j * kMaxDepth + i];
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

// One front of the factorisation: the dense matrix of a supernode's columns and rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../structure/index_buffer.h"
#include "factorize.h"
#include "kernels.h"

namespace largesteps {

// Storage that one thread reuses for all its fronts.
class Front {
 public:
  // Starts a new front with the entries of the matrix in the columns of supernode s.
  template <typename T>
  void assemble(const IndexView& index, int32_t s, const T* values);
  // Adds the Schur complement (r, r) of a supernode below, its lower triangle stored by columns.
  void add(const double* complement, const int32_t* rows_in_front, int32_t r);
  // Eliminates the columns. Afterwards the front holds, in its lower triangle: minus the inverse of the pivots, the rows
  // below times that inverse, and the Schur complement. Returns the first column that breaks down, or -1.
  int32_t eliminate(int num_threads);
  void copy_complement(double* complement) const;

  double at(int32_t row, int32_t column) const { return values_[static_cast<std::size_t>(column * ld_ + row)]; }
  int32_t num_columns() const { return n_; }
  int32_t num_rows() const { return static_cast<int32_t>(m_) - n_; }
  double pivot() const { return pivot_; }
  double diagonal(int32_t column) const { return diagonal_[static_cast<std::size_t>(column)]; }

 private:
  int32_t invert_pivots(int32_t begin, int32_t depth);

  int32_t n_ = 0;
  int64_t m_ = 0;   // columns and rows
  int64_t ld_ = 0;  // m_, rounded up
  double pivot_ = 0;
  std::vector<double> values_, diagonal_, tiles_, scaled_;
  double inverse_[kMaxDepth * kMaxDepth];  // minus the inverse of the last pivots
  std::vector<int32_t> place_;  // of a global row in this front; valid for the rows of the front only
};

}  // namespace largesteps

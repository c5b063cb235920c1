// From the pattern of a matrix to the index buffer that all other code uses.
#pragma once

#include <cstdint>
#include <vector>

#include "index_buffer.h"
#include "level_schedule.h"
#include "schedule.h"
#include "symbolic.h"

namespace largesteps {

// The analysis of a symmetric pattern in compressed rows: crow (num_verts + 1) and columns (crow[num_verts]), which are read
// again by write(), columns increasing in each row and the diagonal present; positions (num_verts, 3) or nullptr. Throws
// std::invalid_argument for an invalid pattern, and std::length_error if an index does not fit into 31 bits.
//
// The buffer is that of level_index.h if the options merge levels, else that of index_buffer.h.
class Analysis {
 public:
  Analysis(int64_t num_verts, const int64_t* crow, const int64_t* columns, const double* positions,
           const SymbolicOptions& options);

  int64_t size() const { return size_; }  // of the index buffer
  void write(int32_t* buffer) const;

 private:
  template <typename Visit>
  void for_each_section(const Visit& visit) const;
  int64_t factor_size() const { return is_by_levels_ ? levels_.factor_size : schedule_.factor_size; }
  void write_header(int32_t* buffer) const;

  int64_t num_verts_;
  const int64_t* crow_;
  const int64_t* columns_;
  Symbolic symbolic_;
  const bool is_by_levels_;
  Schedule schedule_;     // one of the two
  LevelSchedule levels_;
  int32_t size_ = 0;
};

std::vector<int32_t> analyze_pattern(int64_t num_verts, const int64_t* crow, const int64_t* columns,
                                     const double* positions, const SymbolicOptions& options);

// The number of entries of the triangular factor in this order of elimination, with the diagonal, without the zeros stored in
// dense blocks. It is not part of the analysis, because its time is proportional to the entries of the factor.
//
// Source: Davis, "Algorithm 849: A Concise Sparse Cholesky Factorization Package", ACM TOMS 31(4), 2005.
int64_t count_factor_entries(const IndexView& index);

}  // namespace largesteps

// Numeric factorisation: the stored factor of a matrix whose pattern has been analysed.
//
// Source: Duff, Reid, "The Multifrontal Solution of Indefinite Sparse Symmetric Linear Equations", ACM TOMS 9(3), 1983.
// Each front is eliminated by the sweep operator (Goodnight, "A Tutorial on the SWEEP Operator", The American
// Statistician 33(3), 1979), blocked: the same update replaces the front by the inverse of the pivots, the rows below times
// that inverse and the Schur complement.
#pragma once

#include <cstdint>
#include <vector>

#include "../structure/index_buffer.h"

namespace largesteps {

// A pivot that is not positive beyond rounding. Of several, the first in the order of elimination on the lowest level that has
// any.
struct Breakdown {
  int32_t vertex = -1;  // in the order of the matrix; -1: there was none
  double pivot = 0;
  double diagonal = 0;  // of the matrix at that vertex
  bool overflows = false;  // a number of the factor is not finite in the stored dtype
};

// values: of the matrix, in the order of its entries, finite. factor: index.factor_size() numbers. All arithmetic is in double
// precision, for any stored dtype. Results are bit-identical for every number of threads.
template <typename Stored, typename Given>
Breakdown factorize(const IndexView& index, const Given* values, Stored* factor, int num_threads);

// The same for results.size() matrices with one pattern; their values and their factors are stored one after the other.
template <typename Stored, typename Given>
void factorize_batch(const IndexView& index, const Given* values, Stored* factor, int num_threads,
                     std::vector<Breakdown>& results);

}  // namespace largesteps

// Numeric factorisation: the stored factor of a matrix whose pattern has been analysed.
//
// Source: Duff, Reid, "The Multifrontal Solution of Indefinite Sparse Symmetric Linear Equations", ACM TOMS 9(3), 1983.
// Each front is eliminated by the sweep operator (Goodnight, "A Tutorial on the SWEEP Operator", The American
// Statistician 33(3), 1979), blocked: it leaves the inverse of the pivots, the rows below times that inverse and the
// Schur complement in the place of the front, all by the same update.
#pragma once

#include <cstdint>
#include <vector>

#include "../structure/index_buffer.h"

namespace largesteps {

// Of a pivot that is not positive, or not so beyond rounding: of several the first in the order of elimination among those
// of the lowest level that has any.
struct Breakdown {
  int32_t vertex = -1;  // in the order of the matrix; -1: there was none
  double pivot = 0;
  double diagonal = 0;  // of the matrix at that vertex
  bool overflows = false;  // a number of the factor is not finite where it is stored
};

// values: of the matrix, in the order of its entries, finite. factor: index.factor_size() numbers. All arithmetic is in
// double precision, whatever is read and stored. The same bits for every number of threads.
template <typename Stored, typename Given>
Breakdown factorize(const IndexView& index, const Given* values, Stored* factor, int num_threads);

// The same for results.size() matrices with one pattern, whose values and whose factors stand one after the other.
template <typename Stored, typename Given>
void factorize_batch(const IndexView& index, const Given* values, Stored* factor, int num_threads,
                     std::vector<Breakdown>& results);

}  // namespace largesteps

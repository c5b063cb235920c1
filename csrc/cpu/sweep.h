// The sweeps over the nodes of the schedule, for the columns that are solved together.
#pragma once

#include <cstdint>

#include "../structure/index_buffer.h"
#include "kernels.h"

namespace largesteps {

// The numbers of right-hand sides and solutions that are solved together: `count` columns of rows that are row_size numbers
// apart; or, with several members, all three columns of that many right-hand sides, which are `pitch` numbers apart.
template <typename Given>
struct Columns {
  const Given* rhs;
  Given* x;
  int64_t row_size;
  int count;
  int members = 1;
  int64_t pitch = 0;
};

// Has a workspace of index[kWorkspaceRows] rows. T is the type of the factor and of the arithmetic, Given that of the
// right-hand side and the solution.
template <typename T, typename Given>
class Sweep {
 public:
  Sweep(const IndexView& index, const T* factor, const Columns<Given>& columns, int column_count, T* workspace)
      : index_(index),
        factor_(factor),
        columns_(columns),
        stride_(workspace_stride(kColumnCounts[column_count])),
        kernels_(kernels().sweep<T>(column_count)),
        workspace_(workspace) {}

  // The forward sweep of a node whose children are done; false if its right-hand side is not finite.
  bool forward(int32_t node, T* scratch) const;
  // The backward sweep of a node whose parents are done; false if the solution is not finite.
  bool backward(int32_t node, T* scratch) const;

 private:
  bool load_rhs(int32_t begin, int32_t end) const;
  bool load_positions(int32_t begin, int32_t end) const;
  bool store_x(int32_t begin, int32_t end) const;
  bool store_positions(int32_t begin, int32_t end) const;
  bool load_members(int32_t begin, int32_t end) const;
  bool store_members(int32_t begin, int32_t end) const;
  void clear(int32_t begin, int32_t count) const;
  template <int kStride>
  void pull(int32_t s) const;
  template <int kStride>
  void fill_slots(int32_t root) const;
  void sweep_group(int32_t group, bool is_forward, const int32_t* indices, T* scratch) const;

  const IndexView index_;
  const T* const factor_;
  const Columns<Given> columns_;
  const int stride_;  // of the workspace, which has padding behind the columns
  const SweepKernels<T>& kernels_;
  T* const workspace_;
};

}  // namespace largesteps

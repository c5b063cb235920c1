#include "sweep.h"

#include <algorithm>
#include <cstring>

#include "../structure/layout.h"

namespace largesteps {
// Rows of three columns, by far the most frequent case, are moved four numbers at a time; the fourth belongs to the next row
// and is never used. The very last row has no fourth number.
template <typename T, typename Given>
bool Sweep<T, Given>::load_positions(int32_t begin, int32_t end) const {
  typedef T Row __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T))));
  typedef Given GivenRow __attribute__((vector_size(4 * sizeof(Given)), aligned(sizeof(Given))));
  const int32_t* const old_from_new = index_[kOldFromNew];
  Row checks = {};
  const auto load = [&](int32_t row, const GivenRow& given) {
    const Row numbers = __builtin_convertvector(given, Row);
    checks += 0 * numbers;
    *reinterpret_cast<Row*>(workspace_ + int64_t{row} * 4) = numbers;
  };
  const auto load_rows = [&](int32_t from, int32_t to) {
    for (int32_t row = from; row < to; ++row) {
      load(row, *reinterpret_cast<const GivenRow*>(columns_.rhs + old_from_new[row] * int64_t{3}));
    }
  };
  const auto load_one = [&](int32_t row) {
    const Given* const given = columns_.rhs + old_from_new[row] * int64_t{3};
    load(row, GivenRow{given[0], given[1], given[2], 0});
  };
  // Reads nothing from a row that another thread may be writing, which happens if x is in place of the right-hand side.
  if (columns_.rhs == columns_.x) {
    for (int32_t row = begin; row < end; ++row) load_one(row);
  } else {
    const int32_t last = index_[kNewFromOld][index_[kNumVerts] - 1];
    const bool has_last = last >= begin && last < end;
    load_rows(begin, has_last ? last : end);
    if (has_last) {
      load_one(last);
      load_rows(last + 1, end);
    }
  }
  return checks[0] + checks[1] + checks[2] == 0;
}

template <typename T, typename Given>
bool Sweep<T, Given>::store_positions(int32_t begin, int32_t end) const {
  typedef T Row __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T))));
  typedef Given GivenRow __attribute__((vector_size(4 * sizeof(Given)), aligned(sizeof(Given))));
  const int32_t* const old_from_new = index_[kOldFromNew];
  const T* from = workspace_ + int64_t{begin} * 4;
  GivenRow checks = {};
  for (int32_t row = begin; row < end; ++row, from += 4) {
    const GivenRow numbers = __builtin_convertvector(*reinterpret_cast<const Row*>(from), GivenRow);
    checks += 0 * numbers;
    std::memcpy(columns_.x + old_from_new[row] * int64_t{3}, &numbers, 3 * sizeof(Given));
  }
  return checks[0] + checks[1] + checks[2] == 0;
}

// Moves the columns of a row, four at a time. A lane of a check becomes NaN at the first number that is not finite; there are
// two checks, because an addition has to wait for the one before.
template <typename To, typename From>
struct RowMover {
  typedef To ToFour __attribute__((vector_size(4 * sizeof(To)), aligned(sizeof(To))));
  typedef From FromFour __attribute__((vector_size(4 * sizeof(From)), aligned(sizeof(From))));

  ToFour checks[2] = {};
  To check = 0;

  void move(To* to, const From* from, int count) {
    int c = 0;
    for (; c + 8 <= count; c += 8) {
      const ToFour low = __builtin_convertvector(*reinterpret_cast<const FromFour*>(from + c), ToFour);
      const ToFour high = __builtin_convertvector(*reinterpret_cast<const FromFour*>(from + c + 4), ToFour);
      checks[0] += 0 * low;
      checks[1] += 0 * high;
      *reinterpret_cast<ToFour*>(to + c) = low;
      *reinterpret_cast<ToFour*>(to + c + 4) = high;
    }
    for (; c < count; ++c) {
      to[c] = static_cast<To>(from[c]);
      check += 0 * to[c];
    }
  }

  bool is_finite() const {
    const ToFour sum = checks[0] + checks[1];
    return sum[0] + sum[1] + sum[2] + sum[3] + check == 0;
  }
};

// Moves the positions of several members, a pitch apart, four numbers at a time; the next member overwrites the fourth. Four
// checks: see RowMover.
template <typename To, typename From>
struct PositionMover {
  typedef To ToFour __attribute__((vector_size(4 * sizeof(To)), aligned(sizeof(To))));
  typedef From FromFour __attribute__((vector_size(4 * sizeof(From)), aligned(sizeof(From))));

  ToFour checks[4] = {};

  template <int kNumbers>
  void move_one(To* to, const FromFour& given, ToFour& lane_checks) {
    const ToFour numbers = __builtin_convertvector(given, ToFour);
    lane_checks += 0 * numbers;
    std::memcpy(to, &numbers, kNumbers * sizeof(To));
  }

  template <int kNumbers>
  void move(To* to, int64_t to_pitch, const From* from, int64_t from_pitch, int members) {
    int member = 0;
    for (; member + 4 <= members; member += 4) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k, to += to_pitch, from += from_pitch) {
        move_one<kNumbers>(to, *reinterpret_cast<const FromFour*>(from), checks[k]);
      }
    }
    for (; member < members; ++member, to += to_pitch, from += from_pitch) {
      move_one<kNumbers>(to, *reinterpret_cast<const FromFour*>(from), checks[0]);
    }
  }

  bool is_finite() const {
    const ToFour sum = checks[0] + checks[1] + checks[2] + checks[3];
    return sum[0] + sum[1] + sum[2] == 0;
  }
};

// The processor cannot predict the order of the vertices, so the next ones are prefetched.
constexpr int32_t kAhead = 12;  // rows

template <int kForWriting, typename Given>
void prefetch(const Given* numbers, const Columns<Given>& columns) {
  for (int member = 0; member < columns.members; ++member, numbers += columns.pitch) __builtin_prefetch(numbers, kForWriting);
}

template <typename T, typename Given>
bool Sweep<T, Given>::load_members(int32_t begin, int32_t end) const {
  const int32_t* const old_from_new = index_[kOldFromNew];
  const int32_t last = index_[kNumVerts] - 1;
  const int before_last = columns_.members - 1;
  T* to = workspace_ + int64_t{begin} * stride_;
  PositionMover<T, Given> mover;
  for (int32_t row = begin; row < end; ++row, to += stride_) {
    const int32_t vertex = old_from_new[row];
    const Given* const from = columns_.rhs + vertex * int64_t{3};
    if (row + kAhead < end) prefetch<0>(columns_.rhs + old_from_new[row + kAhead] * int64_t{3}, columns_);
    mover.template move<4>(to, 3, from, columns_.pitch, before_last);
    const Given* const one = from + before_last * columns_.pitch;
    if (vertex == last) {  // there may be nothing to read after it
      const typename PositionMover<T, Given>::FromFour position = {one[0], one[1], one[2], 0};
      mover.template move_one<4>(to + 3 * before_last, position, mover.checks[0]);
    } else {
      mover.template move<4>(to + 3 * before_last, 3, one, columns_.pitch, 1);
    }
    for (int c = 3 * before_last + 4; c < stride_; ++c) to[c] = 0;
  }
  return mover.is_finite();
}

template <typename T, typename Given>
bool Sweep<T, Given>::store_members(int32_t begin, int32_t end) const {
  const int32_t* const old_from_new = index_[kOldFromNew];
  const T* from = workspace_ + int64_t{begin} * stride_;
  PositionMover<Given, T> mover;
  for (int32_t row = begin; row < end; ++row, from += stride_) {
    if (row + kAhead < end) prefetch<1>(columns_.x + old_from_new[row + kAhead] * int64_t{3}, columns_);
    mover.template move<3>(columns_.x + old_from_new[row] * int64_t{3}, columns_.pitch, from, 3, columns_.members);
  }
  return mover.is_finite();
}

template <typename T, typename Given>
bool Sweep<T, Given>::load_rhs(int32_t begin, int32_t end) const {
  if (columns_.members > 1) return load_members(begin, end);
  if (columns_.count == 3 && columns_.row_size == 3) return load_positions(begin, end);
  const int32_t* const old_from_new = index_[kOldFromNew];
  T* to = workspace_ + int64_t{begin} * stride_;
  RowMover<T, Given> mover;
  for (int32_t row = begin; row < end; ++row, to += stride_) {
    mover.move(to, columns_.rhs + old_from_new[row] * columns_.row_size, columns_.count);
    std::fill(to + columns_.count, to + stride_, T(0));
  }
  return mover.is_finite();
}

template <typename T, typename Given>
bool Sweep<T, Given>::store_x(int32_t begin, int32_t end) const {
  if (columns_.members > 1) return store_members(begin, end);
  if (columns_.count == 3 && columns_.row_size == 3) return store_positions(begin, end);
  const int32_t* const old_from_new = index_[kOldFromNew];
  const T* from = workspace_ + int64_t{begin} * stride_;
  RowMover<Given, T> mover;
  for (int32_t row = begin; row < end; ++row, from += stride_) {
    mover.move(columns_.x + old_from_new[row] * columns_.row_size, from, columns_.count);
  }
  return mover.is_finite();
}

template <typename T, typename Given>
void Sweep<T, Given>::clear(int32_t begin, int32_t count) const {
  T* const from = workspace_ + int64_t{begin} * stride_;
  std::fill(from, from + int64_t{count} * stride_, T(0));
}

// Adds the contributions of the supernodes below to the columns of s, and to its slots, which go further up.
template <typename T, typename Given>
template <int kStride>
void Sweep<T, Given>::pull(int32_t s) const {
  const int32_t first = index_[kFirst][s], n = index_.num_columns(s), slots = index_[kSlots][s];
  for (int32_t child = s - 1; child >= index_[kSubtree][s]; child = index_[kSubtree][child] - 1) {
    const int32_t r = index_.num_rows(child);
    const int32_t* const rows = index_[kRowsInParent] + index_[kRowStart][child];
    const T* from = workspace_ + int64_t{index_[kSlots][child]} * kStride;
    for (int32_t k = 0; k < r; ++k, from += kStride) {
      T* const to = workspace_ + int64_t{rows[k] < n ? first + rows[k] : slots + rows[k] - n} * kStride;
      for (int c = 0; c < kStride; ++c) to[c] += from[c];
    }
  }
}

// Copies the solution of the rows above a task to the slots from which the task's supernodes read it.
template <typename T, typename Given>
template <int kStride>
void Sweep<T, Given>::fill_slots(int32_t root) const {
  const int32_t* const rows = index_[kRows] + index_[kRowStart][root];
  T* to = workspace_ + int64_t{index_[kSlots][root]} * kStride;
  for (int32_t i = 0; i < index_.num_rows(root); ++i, to += kStride) {
    std::memcpy(to, workspace_ + int64_t{rows[i]} * kStride, kStride * sizeof(T));
  }
}

// Calls a function with the stride as a constant.
#define LARGESTEPS_WITH_STRIDE(function, argument) \
  switch (stride_) {                               \
    case 1: function<1>(argument); break;          \
    case 2: function<2>(argument); break;          \
    case 4: function<4>(argument); break;          \
    case 8: function<8>(argument); break;          \
    case 16: function<16>(argument); break;        \
    default: function<32>(argument);               \
  }

template <typename T, typename Given>
void Sweep<T, Given>::sweep_group(int32_t group, bool is_forward, const int32_t* indices, T* scratch) const {
  const int32_t n = index_[kGroupColumns][group], r = index_[kGroupRows][group];
  const T* const g = factor_ + int64_t{kLanes} * index_[kGroupG][group];
  const T* const p = factor_ + int64_t{kLanes} * index_[kGroupP][group];
  const bool is_batch = index_[kGroupMemberStart][group + 1] - index_[kGroupMemberStart][group] > 1;
  const auto& kernels = is_batch ? kernels_.batch : kernels_.single;
  (is_forward ? kernels.forward : kernels.backward)(g, p, n, r, indices, workspace_, scratch);
}

template <typename T, typename Given>
bool Sweep<T, Given>::forward(int32_t node, T* scratch) const {
  const bool is_task = node < index_[kNumTasks];
  bool is_finite = true;
  for (int32_t k = index_[kNodeRootStart][node]; k < index_[kNodeRootStart][node + 1]; ++k) {
    const int32_t root = index_[kNodeRoots][k];
    is_finite &= load_rhs(index_[kFirst][is_task ? index_[kSubtree][root] : root], index_[kFirst][root + 1]);
    clear(index_[kSlots][root], index_.num_rows(root) + kLanes);  // of the last root with the rows that stand in
    if (is_task) continue;
    LARGESTEPS_WITH_STRIDE(pull, root)
  }
  if (!is_finite) return false;
  for (int32_t group = index_[kNodeGroups][node]; group < index_[kNodeGroups][node + 1]; ++group) {
    sweep_group(group, true, index_[kIndices] + index_[kGroupIndices][group], scratch);
  }
  return true;
}

template <typename T, typename Given>
bool Sweep<T, Given>::backward(int32_t node, T* scratch) const {
  const int32_t begin = index_[kNodeRootStart][node], end = index_[kNodeRootStart][node + 1];
  if (node >= index_[kNumTasks]) {
    const int32_t root = index_[kNodeRoots][begin], group = index_[kNodeGroups][node];
    const int64_t list = round_up(index_.num_columns(root)) + round_up(index_.num_rows(root));
    sweep_group(group, false, index_[kIndices] + index_[kGroupIndices][group] + list, scratch);
    return store_x(index_[kFirst][root], index_[kFirst][root + 1]);
  }
  for (int32_t k = begin; k < end; ++k) {
    LARGESTEPS_WITH_STRIDE(fill_slots, index_[kNodeRoots][k])
  }
  for (int32_t group = index_[kNodeGroups][node + 1] - 1; group >= index_[kNodeGroups][node]; --group) {
    sweep_group(group, false, index_[kIndices] + index_[kGroupIndices][group], scratch);
  }
  bool is_finite = true;
  for (int32_t k = begin; k < end; ++k) {
    const int32_t root = index_[kNodeRoots][k];
    is_finite &= store_x(index_[kFirst][index_[kSubtree][root]], index_[kFirst][root + 1]);
  }
  return is_finite;
}

template class Sweep<float, float>;
template class Sweep<double, float>;
template class Sweep<double, double>;

}  // namespace largesteps

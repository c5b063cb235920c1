#include "solve.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "../threads/parallel.h"
#include "../threads/team.h"
#include "sweep.h"
#include "thread_buffer.h"

namespace largesteps {
namespace {

// Smaller solves end before a second thread could begin.
constexpr int32_t kLeastSharedVerts = 2000;

template <typename T>
int64_t scratch_bytes(const IndexView& index, int num_columns) {
  return scratch_size(index[kMaxFront], index[kMaxFront], num_columns) * static_cast<int64_t>(sizeof(T));
}

// A right-hand side that is not finite also overflows; report the right-hand side, the cause.
void note_overflow(std::atomic<SolveStatus>& status) {
  SolveStatus expected = SolveStatus::kSolved;
  status.compare_exchange_strong(expected, SolveStatus::kOverflow);
}

// Both sweeps, by any number of threads. A node begins when its predecessors are done: in the forward sweep the nodes below it,
// in the backward sweep those above.
template <typename T, typename Given>
class SharedSweep : public SharedWork {
 public:
  SharedSweep(const IndexView& index, const Sweep<T, Given>& sweep, int num_columns)
      : index_(index),
        sweep_(sweep),
        num_columns_(num_columns),
        waits_(static_cast<size_t>(2 * index[kNumNodes])),
        remaining_(2 * index[kNumNodes]) {
    const int32_t num_nodes = index[kNumNodes];
    for (int32_t node = num_nodes - 1; node >= 0; --node) {
      const int32_t children = index[kNodeChildStart][node + 1] - index[kNodeChildStart][node];
      int32_t parents = 0;
      for (int32_t k = index[kNodeRootStart][node]; k < index[kNodeRootStart][node + 1]; ++k) {
        parents += index[kRootParents][k] >= 0;
      }
      waits_[static_cast<size_t>(node)].store(children, std::memory_order_relaxed);
      // The backward sweep of a node also waits for its forward sweep, which matters only for nodes without parents.
      waits_[static_cast<size_t>(num_nodes + node)].store(parents + 1, std::memory_order_relaxed);
      if (children == 0) ready_.push_back(node);
    }
  }

  void run() override {
    WaitWatch watch;
    int32_t step = -1;
    for (;;) {
      if (step < 0) step = take();
      if (step >= 0) {
        watch.begin_step();
        step = do_step(step);
        watch.end_step();
        remaining_.fetch_sub(1, std::memory_order_acq_rel);
      } else if (remaining_.load(std::memory_order_acquire) == 0) {
        return;
      } else {
        watch.wait();
      }
    }
  }

  SolveStatus status() const { return status_.load(); }

 private:
  // Steps are numbered: the node in the forward sweep, the node + num_nodes in the backward sweep.
  int32_t take() {
    if (num_ready_hint_.load(std::memory_order_relaxed) == 0) return -1;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (ready_.empty()) return -1;
    const int32_t step = ready_.back();
    ready_.pop_back();
    num_ready_hint_.store(static_cast<int32_t>(ready_.size()), std::memory_order_relaxed);
    return step;
  }

  // One predecessor of a step is done. The thread that finds the first ready step takes it without waiting for the lock; other
  // ready steps go to any thread.
  void finish_one(int32_t step, int32_t& next) {
    if (waits_[static_cast<size_t>(step)].fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (next < 0) {
      next = step;
      return;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    ready_.push_back(step);
    num_ready_hint_.store(static_cast<int32_t>(ready_.size()), std::memory_order_relaxed);
  }

  // Returns a step that can be done now, or -1.
  int32_t do_step(int32_t step) {
    const int32_t num_nodes = index_[kNumNodes];
    const ThreadBuffer buffer(Purpose::kScratch, scratch_bytes<T>(index_, num_columns_));
    T* const memory = static_cast<T*>(buffer.data());
    int32_t next = -1;
    if (step < num_nodes) {
      if (!sweep_.forward(step, memory)) status_.store(SolveStatus::kRhsNotFinite);
      for (int32_t k = index_[kNodeRootStart][step]; k < index_[kNodeRootStart][step + 1]; ++k) {
        if (index_[kRootParents][k] >= 0) finish_one(index_[kRootParents][k], next);
      }
      finish_one(num_nodes + step, next);
    } else {
      const int32_t node = step - num_nodes;
      if (!sweep_.backward(node, memory)) note_overflow(status_);
      for (int32_t k = index_[kNodeChildStart][node]; k < index_[kNodeChildStart][node + 1]; ++k) {
        finish_one(num_nodes + index_[kChildNodes][k], next);
      }
    }
    return next;
  }

  const IndexView index_;
  const Sweep<T, Given>& sweep_;
  const int num_columns_;
  std::vector<std::atomic<int32_t>> waits_;
  std::atomic<int32_t> remaining_;
  std::atomic<int32_t> num_ready_hint_{1};
  std::mutex mutex_;
  std::vector<int32_t> ready_;
  std::atomic<SolveStatus> status_{SolveStatus::kSolved};
};

// By one thread. Where there may be several trees, one after the other, up and down, while the factor of each is in the cache;
// in the order that SharedSweep has them.
template <typename T, typename Given>
SolveStatus sweep_alone(const IndexView& index, const Sweep<T, Given>& sweep, int num_columns) {
  constexpr int32_t kFewNodes = 8;  // not worth the lists
  if (index[kNumNodes] > kFewNodes) {
    SharedSweep<T, Given> steps(index, sweep, num_columns);
    steps.run();
    return steps.status();
  }
  const ThreadBuffer buffer(Purpose::kScratch, scratch_bytes<T>(index, num_columns));
  T* const memory = static_cast<T*>(buffer.data());
  bool is_finite = true;
  for (int32_t node = 0; node < index[kNumNodes]; ++node) is_finite &= sweep.forward(node, memory);
  if (!is_finite) return SolveStatus::kRhsNotFinite;
  for (int32_t node = index[kNumNodes] - 1; node >= 0; --node) is_finite &= sweep.backward(node, memory);
  return is_finite ? SolveStatus::kSolved : SolveStatus::kOverflow;
}

// What one sweep solves: columns of one right-hand side, or the three columns of each of several.
struct Piece {
  int64_t member;
  int members;
  int64_t first;
  int count;
  int column_count;  // index into kColumnCounts
};

void add_columns(int64_t member, int64_t num_columns, std::vector<Piece>& pieces) {
  for (int64_t first = 0; first < num_columns;) {
    const int64_t left = num_columns - first;
    const int column_count = left >= 24 ? 6 : left >= 12 ? 5 : left >= 5 ? 4 : static_cast<int>(left) - 1;
    const int count = static_cast<int>(std::min<int64_t>(left, kColumnCounts[column_count]));
    pieces.push_back({member, 1, first, count, column_count});
    first += count;
  }
}

// The split does not depend on the number of threads, because the last bits depend on the split. Positions of many members with
// one factor are solved side by side if that is faster than one after the other.
std::vector<Piece> cut(const Batch& batch, int64_t num_columns, bool is_side_by_side) {
  constexpr int kMost = 10, kMany = 8, kSeveral = 5, kFew = 4;  // fill kernels for 32 and for 16 columns, or nearly so
  std::vector<Piece> pieces;
  for (int64_t member = 0; member < batch.size;) {
    const int64_t left = is_side_by_side ? batch.size - member : 0;
    if (left < kFew) {
      add_columns(member++, num_columns, pieces);
      continue;
    }
    const int members = static_cast<int>(std::min<int64_t>(left, left < kMany ? kSeveral : kMost));
    pieces.push_back({member, members, 0, 3 * members, members > kSeveral ? 6 : 5});
    member += members;
  }
  return pieces;
}

}  // namespace

template <typename T, typename Given>
SolveStatus solve(const IndexView& index, const T* factor, const Given* rhs, Given* x, int64_t num_columns, int num_threads,
                  const Batch& batch) {
  // Members solved side by side are read beyond their ends, which another thread may be writing if x is in place.
  const bool is_side_by_side = num_columns == 3 && batch.factor_stride == 0 && rhs != x;
  const std::vector<Piece> pieces = cut(batch, num_columns, is_side_by_side);
  const auto num_pieces = static_cast<int64_t>(pieces.size());
  const int64_t num_verts = index[kNumVerts];
  // With enough pieces each thread does whole ones; otherwise all threads share each piece.
  const bool is_by_piece = num_pieces >= num_threads;
  const bool is_shared = num_verts >= kLeastSharedVerts && index[kNumNodes] >= 2 && !is_by_piece;
  if (num_verts * (is_by_piece ? num_pieces : 1) < kLeastSharedVerts) num_threads = 1;
  std::atomic<SolveStatus> status{SolveStatus::kSolved};
  parallel_for(num_pieces, is_by_piece ? num_threads : 1, [&](int64_t k) {
    const Piece& piece = pieces[static_cast<size_t>(k)];
    const int64_t pitch = num_verts * num_columns, begin = piece.member * pitch + piece.first;
    const int width = kColumnCounts[piece.column_count];
    const int64_t workspace_size = int64_t{index[kWorkspaceRows]} * workspace_stride(width);
    const ThreadBuffer buffer(Purpose::kWorkspace, workspace_size * static_cast<int64_t>(sizeof(T)));
    T* const workspace = static_cast<T*>(buffer.data());
    const Columns<Given> columns = {rhs + begin, x + begin, num_columns, piece.count, piece.members, pitch};
    const Sweep<T, Given> sweep(index, factor + piece.member * batch.factor_stride, columns, piece.column_count, workspace);
    SolveStatus of_piece = SolveStatus::kSolved;
    if (!is_shared || num_threads == 1) {
      of_piece = sweep_alone(index, sweep, width);
    } else {
      const auto shared = std::make_shared<SharedSweep<T, Given>>(index, sweep, width);
      work_together(shared, num_threads);
      of_piece = shared->status();
    }
    if (of_piece == SolveStatus::kRhsNotFinite) status = of_piece;
    if (of_piece == SolveStatus::kOverflow) note_overflow(status);
  });
  return status;
}

template SolveStatus solve<float, float>(const IndexView&, const float*, const float*, float*, int64_t, int, const Batch&);
template SolveStatus solve<double, float>(const IndexView&, const double*, const float*, float*, int64_t, int, const Batch&);
template SolveStatus solve<double, double>(const IndexView&, const double*, const double*, double*, int64_t, int,
                                           const Batch&);

}  // namespace largesteps

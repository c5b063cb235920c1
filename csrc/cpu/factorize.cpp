#include "factorize.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "../structure/layout.h"
#include "../threads/parallel.h"
#include "front.h"

namespace largesteps {
namespace {

constexpr int32_t kLeastSharedVerts = 2000;

// If a factor outgrows the caches, a solve looks up a page for every four kilobytes that it reads. Untouched memory can come in
// pages of two megabytes instead, if the system allows it.
void advise_huge_pages(void* memory, int64_t size) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHugePage = uintptr_t{1} << 21;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + static_cast<uintptr_t>(size)) / kHugePage * kHugePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  static_cast<void>(memory);
  static_cast<void>(size);
#endif
}

// Stores G and -P, which are the front's numbers with the opposite sign. False if a number is not finite in the stored dtype.
template <typename T, typename Layout>
bool store_factor(const Front& front, const Layout& layout, T* g, T* p) {
  const int32_t n = front.num_columns(), r = front.num_rows();
  T check = 0;  // becomes NaN with the first number that is not finite
  for (int32_t column = 0; column < n; ++column) {
    for (int32_t row = Layout::first_row(column); row < n; ++row) {
      const double value = row >= column ? front.at(row, column) : front.at(column, row);
      const T number = static_cast<T>(-value);
      g[layout.at_g(row, column)] = number;
      check += 0 * number;
    }
    for (int32_t row = 0; row < r; ++row) {
      const T number = static_cast<T>(-front.at(n + row, column));
      p[layout.at_p(row, column)] = number;
      check += 0 * number;
    }
  }
  return check == 0;
}

template <typename Stored, typename Given>
class Factorization {
 public:
  Factorization(const IndexView& index, const Given* values, Stored* factor, int num_threads)
      : index_(index),
        values_(values),
        factor_(factor),
        num_threads_(index[kNumVerts] < kLeastSharedVerts ? 1 : num_threads),
        complements_(static_cast<size_t>(index[kNumSupernodes])),
        group_(static_cast<size_t>(index[kNumSupernodes])) {
    for (int32_t group = 0; group < index[kNumGroups]; ++group) {
      for (int32_t k = index[kGroupMemberStart][group]; k < index[kGroupMemberStart][group + 1]; ++k) {
        group_[static_cast<size_t>(index[kGroupMembers][k])] = group;
      }
    }
  }

  Breakdown run() {
    parallel_for(index_[kNumTasks], num_threads_, [&](int64_t task) {
      const Lease front(*this);
      for (int32_t k = index_[kNodeRootStart][task]; k < index_[kNodeRootStart][task + 1]; ++k) {
        const int32_t root = index_[kNodeRoots][k];
        for (int32_t s = index_[kSubtree][root]; s <= root; ++s) {
          if (!factorize(s, *front)) return;
        }
      }
    });
    if (breakdown_.vertex < 0) factorize_upper();
    breakdown_.overflows = overflows_;
    return breakdown_;
  }

 private:
  // The supernodes above the tasks, level by level. Threads share the supernodes of a level or, if there is only one, its
  // columns.
  void factorize_upper() {
    const int32_t num_tasks = index_[kNumTasks], num_nodes = index_[kNumNodes];
    std::vector<int32_t> upper, height(static_cast<size_t>(num_nodes), 0);
    for (int32_t node = num_tasks; node < num_nodes; ++node) {
      for (int32_t k = index_[kNodeChildStart][node]; k < index_[kNodeChildStart][node + 1]; ++k) {
        const int32_t below = height[static_cast<size_t>(index_[kChildNodes][k])];
        height[static_cast<size_t>(node)] = std::max(height[static_cast<size_t>(node)], below + 1);
      }
      upper.push_back(node);
    }
    std::stable_sort(upper.begin(), upper.end(), [&](int32_t a, int32_t b) {
      return height[static_cast<size_t>(a)] < height[static_cast<size_t>(b)];
    });
    for (size_t begin = 0; begin < upper.size() && breakdown_.vertex < 0;) {
      size_t end = begin;
      while (end < upper.size() && height[static_cast<size_t>(upper[end])] == height[static_cast<size_t>(upper[begin])]) {
        ++end;
      }
      parallel_for(static_cast<int64_t>(end - begin), num_threads_, [&](int64_t k) {
        const Lease front(*this);
        factorize(index_[kNodeRoots][index_[kNodeRootStart][upper[begin + static_cast<size_t>(k)]]], *front);
      });
      begin = end;
    }
  }

  // A front that no other thread is using.
  class Lease {
   public:
    explicit Lease(Factorization& owner) : owner_(owner) {
      const std::lock_guard<std::mutex> lock(owner.mutex_);
      if (owner.free_.empty()) owner.free_.push_back(std::make_unique<Front>());
      front_ = std::move(owner.free_.back());
      owner.free_.pop_back();
    }
    ~Lease() {
      const std::lock_guard<std::mutex> lock(owner_.mutex_);
      owner_.free_.push_back(std::move(front_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Front& operator*() const { return *front_; }

   private:
    Factorization& owner_;
    std::unique_ptr<Front> front_;
  };

  // False if a pivot broke down.
  bool factorize(int32_t s, Front& front) {
    front.assemble(index_, s, values_);
    for (int32_t child = s - 1; child >= index_[kSubtree][s]; child = index_[kSubtree][child] - 1) {
      auto& complement = complements_[static_cast<size_t>(child)];
      if (index_.num_rows(child) == 0) continue;
      front.add(complement.get(), index_[kRowsInParent] + index_[kRowStart][child], index_.num_rows(child));
      complement.reset();
    }
    const int32_t column = front.eliminate(num_threads_);
    if (column >= 0) {
      report(index_[kOldFromNew][index_[kFirst][s] + column], front.pivot(), front.diagonal(column));
      return false;
    }
    const int32_t group = group_[static_cast<size_t>(s)], members = index_[kGroupMemberStart][group];
    Stored* const g = factor_ + int64_t{kLanes} * index_[kGroupG][group];
    Stored* const p = factor_ + int64_t{kLanes} * index_[kGroupP][group];
    bool is_finite = false;
    if (index_[kGroupMemberStart][group + 1] - members == 1) {
      is_finite = store_factor(front, SingleLayout(front.num_columns(), front.num_rows()), g, p);
    } else {
      const int32_t* const begin = index_[kGroupMembers] + members;
      const auto lane = std::find(begin, begin + kLanes, s) - begin;
      is_finite = store_factor(front, BatchLayout(index_[kGroupColumns][group], index_[kGroupRows][group]), g + lane, p + lane);
    }
    if (!is_finite) overflows_ = true;
    const auto r = static_cast<size_t>(front.num_rows());
    if (r == 0) return true;
    complements_[static_cast<size_t>(s)].reset(new double[r * r]);
    front.copy_complement(complements_[static_cast<size_t>(s)].get());
    return true;
  }

  // The reported breakdown does not depend on the order of threads: all tasks, and all supernodes of a level, are tried.
  void report(int32_t vertex, double pivot, double diagonal) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int32_t* const position = index_[kNewFromOld];
    if (breakdown_.vertex < 0 || position[vertex] < position[breakdown_.vertex]) breakdown_ = {vertex, pivot, diagonal, false};
  }

  const IndexView index_;
  const Given* const values_;
  Stored* const factor_;
  const int num_threads_;
  std::vector<std::unique_ptr<double[]>> complements_;
  std::vector<int32_t> group_;
  std::vector<std::unique_ptr<Front>> free_;
  std::mutex mutex_;
  Breakdown breakdown_;
  std::atomic<bool> overflows_{false};
};

}  // namespace

template <typename Stored, typename Given>
Breakdown factorize(const IndexView& index, const Given* values, Stored* factor, int num_threads) {
  advise_huge_pages(factor, index.factor_size() * static_cast<int64_t>(sizeof(Stored)));
  std::fill(factor, factor + index.factor_size(), Stored(0));
  return Factorization<Stored, Given>(index, values, factor, num_threads).run();
}

template <typename Stored, typename Given>
void factorize_batch(const IndexView& index, const Given* values, Stored* factor, int num_threads,
                     std::vector<Breakdown>& results) {
  const auto size = static_cast<int64_t>(results.size());
  // With enough matrices each thread factorises whole ones; otherwise all threads share each matrix.
  const bool is_by_matrix = size >= num_threads;
  parallel_for(size, is_by_matrix ? num_threads : 1, [&](int64_t k) {
    results[static_cast<size_t>(k)] = factorize(index, values + k * index[kNumEntries], factor + k * index.factor_size(),
                                                is_by_matrix ? 1 : num_threads);
  });
}

template void factorize_batch<float, float>(const IndexView&, const float*, float*, int, std::vector<Breakdown>&);
template void factorize_batch<double, float>(const IndexView&, const float*, double*, int, std::vector<Breakdown>&);
template void factorize_batch<double, double>(const IndexView&, const double*, double*, int, std::vector<Breakdown>&);

template Breakdown factorize<float, float>(const IndexView&, const float*, float*, int);
template Breakdown factorize<double, float>(const IndexView&, const float*, double*, int);
template Breakdown factorize<double, double>(const IndexView&, const double*, double*, int);

}  // namespace largesteps

#include "parallel.h"

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "team.h"

namespace largesteps {
namespace {

class Items : public SharedWork {
 public:
  Items(int64_t num_items, const std::function<void(int64_t)>& body) : num_items_(num_items), body_(&body) {}

  void run() override {
    WaitWatch watch;
    for (;;) {
      const int64_t item = next_.fetch_add(1);
      if (item >= num_items_) break;
      // The body exists as long as an item is not done: the caller waits for that item.
      watch.begin_step();
      try {
        (*body_)(item);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
      watch.end_step();
      done_.fetch_add(1, std::memory_order_acq_rel);
    }
    if (!is_caller()) return;
    while (done_.load(std::memory_order_acquire) < num_items_) watch.wait();
  }

  // Moves the error out. Otherwise a helper that releases this object last could destroy an exception that the caller
  // still uses.
  void rethrow() {
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  bool is_caller() const { return std::this_thread::get_id() == caller_; }

  const std::thread::id caller_ = std::this_thread::get_id();
  const int64_t num_items_;
  const std::function<void(int64_t)>* const body_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> done_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

void parallel_for(int64_t num_items, int num_threads, const std::function<void(int64_t)>& body) {
  if (num_threads <= 1 || num_items <= 1) {
    for (int64_t item = 0; item < num_items; ++item) body(item);
    return;
  }
  const auto items = std::make_shared<Items>(num_items, body);
  work_together(items, num_threads);
  items->rethrow();
}

}  // namespace largesteps

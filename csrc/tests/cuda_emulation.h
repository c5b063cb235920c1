// As much of CUDA as the kernels of csrc/cuda use, on one thread of a CPU, so that their logic is tested where no GPU is.
//
// Each thread of a block is a context of its own, which runs until it waits for others. Blocks, and the threads between two
// barriers, run in an order that is drawn anew each time: what depends on the order comes out wrong. Under the thread sanitizer
// the contexts are fibers that nothing orders but the barriers, so that it reports two threads of a block that touch the same
// number without one between them. A barrier that some threads never reach ends the program.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define LARGESTEPS_SANITIZED  // longjmp would confuse them
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static

struct dim3 {
  unsigned x, y, z;
  explicit dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};

inline dim3 threadIdx, blockIdx;

namespace largesteps::device {

#define LARGESTEPS_UNSEEN __attribute__((no_sanitize("thread")))

class BlockEmulator {
 public:
  static BlockEmulator& get() {
    static BlockEmulator* const emulator = new BlockEmulator;  // never taken apart: its contexts are never done
    return *emulator;
  }

  LARGESTEPS_UNSEEN void run(dim3 grid, unsigned num_threads, const std::function<void()>& kernel) {
    kernel_ = &kernel;
    std::vector<uint64_t> blocks(uint64_t{grid.x} * grid.y * grid.z);
    std::iota(blocks.begin(), blocks.end(), uint64_t{0});
    std::shuffle(blocks.begin(), blocks.end(), random_);
    for (const uint64_t block : blocks) {
      blockIdx = dim3(static_cast<unsigned>(block % grid.x), static_cast<unsigned>(block / grid.x % grid.y),
                      static_cast<unsigned>(block / grid.x / grid.y));
      run_block(num_threads);
    }
  }

  LARGESTEPS_UNSEEN void wait_for_block() { wait(kAtBlock); }

  // The value that the lane so far away has brought along.
  LARGESTEPS_UNSEEN double exchange(double value, int distance) {
    Thread& mine = *threads_[current_];
    const unsigned slot = mine.num_exchanges++ % 2, partner = current_ ^ static_cast<unsigned>(distance);
    mine.brought[slot] = value;
    wait(kAtWarp);
    return threads_[partner]->brought[slot];
  }

 private:
  static constexpr size_t kStackSize = 65536;
  static constexpr unsigned kWarp = 32;
  enum State { kRunnable, kAtBlock, kAtWarp, kDone };

  struct Thread {
    ucontext_t context;
    jmp_buf place;
    bool has_begun = false;
    std::unique_ptr<char[]> stack{new char[kStackSize]};
    State state = kDone;
    double brought[2] = {};
    unsigned num_exchanges = 0;
#if defined(__SANITIZE_THREAD__)
    void* fiber = nullptr;
#endif
  };

  LARGESTEPS_UNSEEN void run_block(unsigned num_threads) {
    while (threads_.size() < num_threads) add_thread();
    std::vector<unsigned> order(num_threads);
    std::iota(order.begin(), order.end(), 0u);
    release(&start_);
    for (const unsigned k : order) {
      threads_[k]->state = kRunnable;
      threads_[k]->num_exchanges = 0;
    }
    for (;;) {
      std::shuffle(order.begin(), order.end(), random_);
      for (const unsigned k : order) {
        if (threads_[k]->state == kRunnable) resume(k);
      }
      const auto count = [&](unsigned from, unsigned to, State state) {
        return std::count_if(threads_.begin() + from, threads_.begin() + to, [&](auto& thread) { return thread->state == state; });
      };
      if (count(0, num_threads, kDone) == num_threads) break;
      bool goes_on = set_free(0, num_threads, count(0, num_threads, kAtBlock) == num_threads);
      for (unsigned warp = 0; warp < num_threads; warp += kWarp) {
        const unsigned end = std::min(num_threads, warp + kWarp);
        goes_on |= set_free(warp, end, count(warp, end, kAtWarp) == end - warp);
      }
      if (!goes_on) {
        std::printf("a block waits for threads that do not come\n");
        std::abort();
      }
    }
    acquire(&end_);
  }

  LARGESTEPS_UNSEEN bool set_free(unsigned begin, unsigned end, bool is_complete) {
    if (!is_complete) return false;
    for (unsigned k = begin; k < end; ++k) threads_[k]->state = kRunnable;
    return true;
  }

  // Contexts live from block to block.
  LARGESTEPS_UNSEEN void add_thread() {
    threads_.push_back(std::make_unique<Thread>());
    Thread& thread = *threads_.back();
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = kStackSize;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, &BlockEmulator::enter, 0);
#if defined(__SANITIZE_THREAD__)
    thread.fiber = __tsan_create_fiber(0);
    scheduler_fiber_ = __tsan_get_current_fiber();
#endif
  }

  LARGESTEPS_UNSEEN void resume(unsigned k) {
    current_ = k;
    threadIdx.x = k;
    Thread& thread = *threads_[k];
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(thread.fiber, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(LARGESTEPS_SANITIZED)
    swapcontext(&scheduler_, &thread.context);
#else
    if (_setjmp(scheduler_place_) != 0) return;
    if (thread.has_begun) _longjmp(thread.place, 1);  // which asks nothing of the system, as swapcontext does
    thread.has_begun = true;
    setcontext(&thread.context);
#endif
  }

  LARGESTEPS_UNSEEN static void enter() {
    BlockEmulator& emulator = get();
    for (;;) {
      acquire(&emulator.start_);
      (*emulator.kernel_)();
      release(&emulator.end_);
      emulator.yield(kDone);
    }
  }

  LARGESTEPS_UNSEEN void wait(State state) {
    void* const barrier = state == kAtBlock ? static_cast<void*>(&barrier_) : &warp_barriers_[current_ / kWarp];
    release(barrier);
    yield(state);
    acquire(barrier);
  }

  LARGESTEPS_UNSEEN void yield(State state) {
    Thread& thread = *threads_[current_];
    thread.state = state;
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(scheduler_fiber_, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(LARGESTEPS_SANITIZED)
    swapcontext(&thread.context, &scheduler_);
#else
    if (_setjmp(thread.place) == 0) _longjmp(scheduler_place_, 1);
#endif
  }

  static void release(void* where) {
#if defined(__SANITIZE_THREAD__)
    __tsan_release(where);
#else
    static_cast<void>(where);
#endif
  }
  static void acquire(void* where) {
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(where);
#else
    static_cast<void>(where);
#endif
  }

  std::mt19937 random_{1};
  std::vector<std::unique_ptr<Thread>> threads_;
  ucontext_t scheduler_;
  jmp_buf scheduler_place_;
  const std::function<void()>* kernel_ = nullptr;
  unsigned current_ = 0;
  char start_ = 0, end_ = 0, barrier_ = 0, warp_barriers_[32] = {};
#if defined(__SANITIZE_THREAD__)
  void* scheduler_fiber_ = nullptr;
#endif
};

using Stream = void*;

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, unsigned num_threads, Stream, Arguments... arguments) {
  BlockEmulator::get().run(grid, num_threads, [=] { kernel(static_cast<Parameters>(arguments)...); });
}

inline void fill_bytes(void* memory, int value, size_t size, Stream) { std::memset(memory, value, size); }

inline const char* last_error() { return nullptr; }

}  // namespace largesteps::device

using std::isfinite;

inline void __syncthreads() { largesteps::device::BlockEmulator::get().wait_for_block(); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int distance) {
  return static_cast<T>(largesteps::device::BlockEmulator::get().exchange(value, distance));
}

inline int atomicOr(int* number, int bits) { return __atomic_fetch_or(number, bits, __ATOMIC_RELAXED); }

template <typename T>
T __ldg(const T* from) {
  return *from;
}

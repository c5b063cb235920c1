// Helper threads that take part in a piece of work while they are free.
#pragma once

#include <chrono>
#include <memory>

namespace largesteps {

// Work that several threads may do together. Each of them calls run(), which returns when nothing is left to begin.
class SharedWork {
 public:
  virtual ~SharedWork() = default;
  virtual void run() = 0;
};

// Offers work->run() to up to num_threads - 1 helpers and runs it on the calling thread too. Returns when the caller's
// run() has returned; the helpers may still be inside theirs. run() itself must wait for steps that another thread has
// begun, and only for those, so a helper whose core is busy delays nobody. A helper may read the work, which it keeps
// alive, after the caller has returned. It must touch nothing else then.
// The caller works alone if another thread's work is on offer, or if it is inside a helper.
void work_together(const std::shared_ptr<SharedWork>& work, int num_threads);

// A short pause in a loop that waits for another thread.
void spin_pause();

// Measures how long run() waits for a step that another thread has begun. If a helper loses its core in the middle of a
// step, the caller waits for a whole time slice, hundreds of times as long as the step. Then no helper is asked for a
// while, so the lost time is bounded.
class WaitWatch {
 public:
  void begin_step() { begin_ = Clock::now(); }
  void end_step();
  void wait();  // instead of spin_pause, in a loop

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin_;
  Clock::duration longest_step_{0};
  int num_waits_ = 0;  // since the last step
};

}  // namespace largesteps

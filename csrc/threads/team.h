// Helper threads that take part in a piece of work if, and as long as, they are free.
#pragma once

#include <chrono>
#include <memory>

namespace largesteps {

// Work that several threads may do together: each of them calls run(), which returns when nothing is left to begin.
class SharedWork {
 public:
  virtual ~SharedWork() = default;
  virtual void run() = 0;
};

// Invites up to num_threads - 1 helpers into work->run() and runs it on the calling thread too. Returns when the
// caller's run() has returned, not when the helpers' have: it is for run() to wait for steps that another thread has
// begun, and only for those, so that a helper whose core is busy holds nobody up. A helper may therefore look at the
// work (which it keeps alive) after the caller has left; it must touch nothing else then.
// While another thread's work is on offer, or from inside a helper, the caller works alone.
void work_together(const std::shared_ptr<SharedWork>& work, int num_threads);

// A moment's pause in a loop that waits for another thread.
void spin_pause();

// Watches how long run() waits for a step that another thread has begun. A helper whose core is taken away in the middle
// of a step keeps the caller waiting for a whole time slice, hundreds of times as long as the step: then no helper is asked
// for a while, and what is wasted is bounded.
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

#include "team.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

namespace largesteps {
namespace {

// How long a helper looks for more work before it sleeps. The two sweeps of an iteration are close together, and waking a
// sleeping thread takes longer than solving a small system.
constexpr std::chrono::microseconds kPatience(100);
constexpr int kMaxHelpers = 255;

// A wait longer than this many steps and longer than this time means that the other thread does not run.
constexpr int kWaitedSteps = 4;
constexpr std::chrono::microseconds kWaitedTime(200);
// After such a wait no helper is asked for this time.
constexpr std::chrono::milliseconds kRest(100);

thread_local bool inside_team = false;
thread_local bool is_helper = false;
std::atomic<int64_t> rest_until{0};  // of steady_clock, in its own unit

bool is_resting() { return std::chrono::steady_clock::now().time_since_epoch().count() < rest_until.load(); }

#if defined(__linux__)
int this_core() { return sched_getcpu(); }

// The cores that a thread may run on; holds more cores than one cpu_set_t.
class Cores {
 public:
  static Cores of_this_thread() {
    Cores cores;
    if (sched_getaffinity(0, sizeof(cores.sets_), cores.sets_) != 0) CPU_ZERO_S(sizeof(cores.sets_), cores.sets_);
    return cores;
  }

  bool operator!=(const Cores& other) const { return !CPU_EQUAL_S(sizeof(sets_), sets_, other.sets_); }
  // 0 if the system does not report it.
  int count() const { return CPU_COUNT_S(sizeof(sets_), sets_); }

  // Lets this thread run on these cores except the given one, if there are others. False if the system refuses.
  bool allow_but(int core) const {
    if (count() == 0) return true;
    Cores others = *this;
    if (core >= 0) CPU_CLR_S(static_cast<size_t>(core), sizeof(sets_), others.sets_);
    return sched_setaffinity(0, sizeof(sets_), (others.count() > 0 ? others : *this).sets_) == 0;
  }

 private:
  cpu_set_t sets_[8192 / CPU_SETSIZE];
};
#else
int this_core() { return -1; }

// Other systems do not report cores.
class Cores {
 public:
  static Cores of_this_thread() { return {}; }
  bool operator!=(const Cores&) const { return false; }
  int count() const { return 0; }
  bool allow_but(int) const { return true; }
};
#endif

class Team {
 public:
  bool offer(const std::shared_ptr<SharedWork>& work, int num_helpers) {
    const Cores cores = Cores::of_this_thread();
    if (cores.count() == 1) return false;  // a helper would only take the core away from the caller
    int num_sleepers = 0;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (work_) return false;
      if (cores != cores_) {
        cores_ = cores;
        ++cores_version_;
      }
      while (num_threads_ < num_helpers && num_threads_ < kMaxHelpers && start_thread()) {
      }
      work_ = work;
      places_ = num_helpers;
      caller_core_ = this_core();
      num_sleepers = num_sleepers_;
      generation_.fetch_add(1, std::memory_order_release);
    }
    if (num_sleepers > 0) {
      if (num_helpers == 1) {
        awake_.notify_one();
      } else {
        awake_.notify_all();
      }
    }
    return true;
  }

  void withdraw() {
    std::shared_ptr<SharedWork> work;  // if it is destroyed, then outside the lock
    std::lock_guard<std::mutex> lock(mutex_);
    work.swap(work_);
  }

 private:
  // The new thread may run on the same cores as the caller.
  bool start_thread() {
    try {
      std::thread([this, version = cores_version_] { serve(version); }).detach();
    } catch (const std::system_error&) {
      return false;  // no more threads are available: use the existing ones
    }
    ++num_threads_;
    return true;
  }

  // cores_version: the version of the cores that this thread may run on now.
  void serve(uint64_t cores_version) {
    inside_team = is_helper = true;
    uint64_t seen = 0;
    for (;;) {
      std::shared_ptr<SharedWork> work;
      Cores cores;
      int caller_core = -1;
      uint64_t version_of_caller = 0;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        if (generation_.load(std::memory_order_acquire) == seen) {
          ++num_sleepers_;
          awake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
          --num_sleepers_;
        }
        seen = generation_.load(std::memory_order_acquire);
        if (work_ && places_ > 0) {
          --places_;
          work = work_;
          cores = cores_;
          caller_core = caller_core_;
          version_of_caller = cores_version_;
        }
      }
      if (work) {
        // Each caller may have its own cores, and they may change. A helper works on the caller's cores or not at all. Also,
        // Linux may wake a thread on the core where it last ran, even if the caller works there and other cores are idle.
        // Then the two would wait for each other. So from now on this thread may use all cores except the caller's, until it
        // meets the caller again.
        const bool meets_caller = caller_core >= 0 && this_core() == caller_core;
        if (cores_version != version_of_caller || meets_caller) {
          if (cores.allow_but(caller_core)) cores_version = version_of_caller;
        }
        if (cores_version == version_of_caller) work->run();
        work.reset();
      }
      const auto end = std::chrono::steady_clock::now() + kPatience;
      while (generation_.load(std::memory_order_acquire) == seen) {
        for (int i = 0; i < 64 && generation_.load(std::memory_order_relaxed) == seen; ++i) spin_pause();
        if (std::chrono::steady_clock::now() > end) break;
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable awake_;
  std::atomic<uint64_t> generation_{0};
  std::shared_ptr<SharedWork> work_;
  int places_ = 0;
  Cores cores_{};  // of the caller
  uint64_t cores_version_ = 0;
  int caller_core_ = -1;
  int num_threads_ = 0;
  int num_sleepers_ = 0;
};

// Never destroyed: the helpers are detached and may outlive all static objects.
std::atomic<Team*> the_team{nullptr};

Team& team() {
  static const bool created = [] {
    the_team = new Team;
#if defined(__unix__) || defined(__APPLE__)
    // A forked child has no helpers, and its copy of the lock may stay locked for ever. So it gets its own team.
    pthread_atfork(nullptr, nullptr, [] {
      inside_team = false;
      the_team = new Team;
    });
#endif
    return true;
  }();
  static_cast<void>(created);
  return *the_team.load();
}

}  // namespace

void spin_pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void WaitWatch::end_step() {
  longest_step_ = std::max(longest_step_, Clock::now() - begin_);
  num_waits_ = 0;
}

void WaitWatch::wait() {
  spin_pause();
  if (num_waits_++ == 0) begin_ = Clock::now();
  if (num_waits_ % 64 != 0 || is_helper) return;
  const Clock::time_point now = Clock::now();
  if (now - begin_ > std::max<Clock::duration>(kWaitedTime, kWaitedSteps * longest_step_)) {
    rest_until = std::chrono::time_point_cast<Clock::duration>(now + kRest).time_since_epoch().count();
  }
}

void work_together(const std::shared_ptr<SharedWork>& work, int num_threads) {
  if (num_threads <= 1 || inside_team || is_resting() || !team().offer(work, num_threads - 1)) {
    work->run();
    return;
  }
  Team* const offered_to = &team();
  inside_team = true;
  work->run();
  inside_team = false;
  offered_to->withdraw();
}

}  // namespace largesteps

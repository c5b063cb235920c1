// Tests of parallel_for() and of solves on many threads at once; returns non-zero on failure.
//
// g++ -std=c++17 -pthread csrc/{threads,dissection,structure}/*.cpp csrc/cpu/*.cpp csrc/tests/test_parallel.cpp
#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "../threads/parallel.h"
#include "../threads/team.h"
#include "../cpu/factorize.h"
#include "../cpu/solve.h"
#include "check.h"

namespace {

using namespace largesteps;

// Whether each item is done once; how often, without atomics, so that a thread sanitizer sees an item done by two.
bool each_once(int64_t num_items, int num_threads) {
  std::vector<int> counts(static_cast<size_t>(num_items), 0);
  parallel_for(num_items, num_threads, [&](int64_t item) { ++counts[static_cast<size_t>(item)]; });
  return std::count(counts.begin(), counts.end(), 1) == num_items;
}

void test_each_once() {
  current_case = "each item once";
  for (const int num_threads : {-1, 0, 1, 2, 3, 4, 16, 400}) {
    for (const int64_t num_items : {0, 1, 2, 3, 7, 1000, 20000}) CHECK(each_once(num_items, num_threads));
  }
  for (int repeat = 0; repeat < 3000; ++repeat) CHECK(each_once(5, 2 + repeat % 3));
}

void test_nested() {
  current_case = "nested";
  std::vector<std::vector<int>> counts(20, std::vector<int>(30, 0));
  parallel_for(20, 4, [&](int64_t row) {
    const auto own = std::this_thread::get_id();
    parallel_for(30, 4, [&](int64_t column) {
      CHECK(std::this_thread::get_id() == own);
      ++counts[static_cast<size_t>(row)][static_cast<size_t>(column)];
    });
  });
  for (const std::vector<int>& row : counts) CHECK(std::count(row.begin(), row.end(), 1) == 30);
}

void test_exceptions() {
  current_case = "exceptions";
  for (const int num_threads : {1, 2, 4}) {
    for (int repeat = 0; repeat < 150; ++repeat) {  // who lets go of the error last is for chance to say
      const int64_t bad = repeat % 3 == 0 ? 0 : repeat % 3 == 1 ? 57 : 99;
      std::vector<int> counts(100, 0);
      bool caught = false;
      try {
        parallel_for(100, num_threads, [&](int64_t item) {
          ++counts[static_cast<size_t>(item)];
          if (item >= bad) throw std::runtime_error("bad item");
        });
      } catch (const std::runtime_error& error) {
        caught = std::string(error.what()) == "bad item";
      }
      CHECK(caught && *std::max_element(counts.begin(), counts.end()) == 1);
      CHECK(counts[static_cast<size_t>(bad)] == 1 && each_once(100, num_threads));  // nothing of it is left behind
    }
  }
}

struct Problem {
  std::vector<int32_t> buffer;
  std::vector<float> values, factor, rhs, x;

  explicit Problem(const System& system)
      : buffer(analyze_system(system, true, 1)), values(system.values.begin(), system.values.end()) {
    Numbers numbers(3);
    for (int32_t k = 0; k < 3 * system.num_verts; ++k) rhs.push_back(static_cast<float>(numbers.below(100)));
    factor = factorized(1);
    x = solved(1);
  }
  IndexView view() const { return {buffer.data()}; }
  std::vector<float> factorized(int num_threads) const {
    std::vector<float> result(static_cast<size_t>(view().factor_size()));
    CHECK(factorize(view(), values.data(), result.data(), num_threads).vertex == -1);
    return result;
  }
  std::vector<float> solved(int num_threads) const {
    std::vector<float> result(rhs.size());
    CHECK(solve(view(), factor.data(), rhs.data(), result.data(), 3, num_threads) == SolveStatus::kSolved);
    return result;
  }
  // Numbers compare equal where bits do: there are neither zeros nor NaN among them that could make a difference.
  bool comes_out_again(int num_threads) const { return factorized(num_threads) == factor && solved(num_threads) == x; }
};

void test_many_callers(const std::vector<Problem>& problems) {
  current_case = "many threads call at once";
  std::atomic<int> num_wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 8; ++caller) {
    callers.emplace_back([&, caller] {
      for (int repeat = 0; repeat < 6; ++repeat) {
        const Problem& problem = problems[static_cast<size_t>(caller + repeat) % problems.size()];
        if (!problem.comes_out_again(1 + (caller + repeat) % 4) || !each_once(200, 3)) ++num_wrong;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(num_wrong == 0);
}

void test_repeats(const std::vector<Problem>& problems) {
  current_case = "the same bits again";
  for (int repeat = 0; repeat < 20; ++repeat) {
    for (const Problem& problem : problems) CHECK(problem.comes_out_again(1 + repeat % 4));
  }
}

#if defined(__linux__)
std::vector<int> cores_of_this_thread() {
  cpu_set_t set;
  CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

void allow(const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) CPU_SET(core, &set);
  CHECK(sched_setaffinity(0, sizeof(set), &set) == 0);
}

// Whether all items are done on cores that the caller may use.
bool stays_on(const std::vector<int>& cores, int num_threads) {
  std::atomic<bool> result{true};
  parallel_for(300, num_threads, [&](int64_t) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(2);  // for helpers to come in time
    while (std::chrono::steady_clock::now() < until) spin_pause();
    if (std::count(cores.begin(), cores.end(), sched_getcpu()) == 0) result = false;
  });
  return result;
}

// Helpers that were started with all cores follow the caller to fewer and back, and serve callers with different ones.
void test_cores() {
  current_case = "cores";
  const std::vector<int> all = cores_of_this_thread();
  std::vector<std::vector<int>> choices = {all};
  for (size_t k = 0; k < std::min<size_t>(all.size(), 4); ++k) {
    choices.push_back({all[k]});
    if (k > 0) choices.push_back({all[k - 1], all[k]});
  }
  for (int repeat = 0; repeat < 5; ++repeat) {
    for (const std::vector<int>& cores : choices) {
      allow(cores);
      for (int call = 0; call < 20; ++call) CHECK(stays_on(cores, 2 + call % 3));
    }
  }
  allow(all);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&, caller] {
      for (int repeat = 0; repeat < 100; ++repeat) {
        const std::vector<int>& cores = choices[static_cast<size_t>(caller + repeat) % choices.size()];
        allow(cores);
        CHECK(stays_on(cores, 3));
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}
#endif

#if !defined(__SANITIZE_THREAD__)  // it refuses to start threads in a forked child
// The child has none of its parent's helpers; a hang would be ended by the alarm.
void check_fork(const Problem* problem) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    const int failures_before = num_failures;
    const bool good = each_once(1000, 4) && (problem == nullptr || problem->comes_out_again(4)) && each_once(1000, 2);
    _exit(good && num_failures == failures_before ? 0 : 1);
  }
  int status = -1;
  CHECK(child > 0 && waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void test_forks(const std::vector<Problem>& problems) {
  current_case = "after fork";
  check_fork(&problems[0]);
#if !defined(__SANITIZE_ADDRESS__)  // another thread may hold its allocator's lock, which it does not release in the child
  current_case = "fork while others work";
  std::atomic<bool> stop{false};
  std::vector<std::thread> others;
  for (int other = 0; other < 2; ++other) {
    others.emplace_back([&] {
      while (!stop) CHECK(each_once(100, 3));
    });
  }
  for (int repeat = 0; repeat < 100; ++repeat) check_fork(repeat % 20 == 0 ? &problems[0] : nullptr);
  stop = true;
  for (std::thread& other : others) other.join();
#endif
  CHECK(problems[0].comes_out_again(4));
}
#endif

}  // namespace

int main() {
  test_each_once();
  test_nested();
  test_exceptions();
  const std::vector<Problem> problems = {Problem(make_torus(60, 50)), Problem(make_kite("kite", 400, 1700)),
                                         Problem(make_scattered())};
  test_repeats(problems);
  test_many_callers(problems);
#if defined(__linux__)
  test_cores();
#endif
#if !defined(__SANITIZE_THREAD__)
  test_forks(problems);
#endif
  std::printf(num_failures == 0 ? "test_parallel: all passed\n" : "test_parallel: %d failures\n", num_failures);
  return num_failures == 0 ? 0 : 1;
}

// Tests of the structure of the factor, of the factorisation and of the solves; returns non-zero on failure.
//
// g++ -std=c++17 -pthread csrc/{threads,dissection,structure}/*.cpp csrc/cpu/*.cpp csrc/tests/test_cholesky.cpp
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../structure/index_buffer.h"
#include "../cpu/factorize.h"
#include "../cpu/kernels.h"
#include "../cpu/solve.h"
#include "check.h"
#include "check_index.h"

namespace {

using namespace largesteps;

const std::vector<int> kThreads = {1, 2, 4};
const std::vector<int> kColumns = {1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 24, 27, 35};
const std::vector<int> kMembers = {0, 3, 4, 9, 14};

#if defined(__SANITIZE_THREAD__)
constexpr int32_t kLeastVerts = 2000;  // smaller systems have one thread
#else
constexpr int32_t kLeastVerts = 0;
#endif

// NaN where nothing is written.
template <typename T>
std::vector<T> nothing(int64_t size) {
  return std::vector<T>(static_cast<size_t>(size), std::numeric_limits<T>::quiet_NaN());
}

template <typename T>
bool same_bits(const std::vector<T>& one, const std::vector<T>& two) {
  return one.size() == two.size() && (one.empty() || std::memcmp(one.data(), two.data(), one.size() * sizeof(T)) == 0);
}

// A matrix of one type whose factor is stored in another.
template <typename Stored, typename Given>
struct Factored {
  IndexView view;
  std::vector<Stored> factor;
  Breakdown breakdown;

  Factored(const System& system, const std::vector<int32_t>& buffer, int num_threads) : view{buffer.data()} {
    factor = nothing<Stored>(view.factor_size());
    const std::vector<Given> values(system.values.begin(), system.values.end());
    breakdown = factorize(view, values.data(), factor.data(), num_threads);
  }
  SolveStatus status(const std::vector<Given>& rhs, std::vector<Given>& x, int num_columns, int num_threads) const {
    return solve(view, factor.data(), rhs.data(), x.data(), num_columns, num_threads);
  }
  bool solve_for(const std::vector<Given>& rhs, std::vector<Given>& x, int num_columns, int num_threads) const {
    return status(rhs, x, num_columns, num_threads) == SolveStatus::kSolved;
  }
};

template <typename T>
std::vector<T> make_rhs(int32_t num_verts, int num_columns) {
  Numbers numbers(static_cast<uint64_t>(num_columns));
  std::vector<T> rhs;
  for (int64_t k = 0; k < int64_t{num_verts} * num_columns; ++k) rhs.push_back(static_cast<T>(numbers.below(2001) * 1e-3 - 1));
  return rhs;
}

// The largest over the columns of |M x - b| / (|M| |x| + |b|), in the maximum norm.
template <typename T>
double backward_error(const System& system, const std::vector<T>& rhs, const std::vector<T>& x, int num_columns) {
  double worst = 0;
  for (int c = 0; c < num_columns; ++c) {
    const auto at = [&](const std::vector<T>& numbers, int64_t row) {
      return static_cast<double>(numbers[static_cast<size_t>(row * num_columns + c)]);
    };
    double residual = 0, norm_m = 0, norm_x = 0, norm_b = 0;
    for (int32_t row = 0; row < system.num_verts; ++row) {
      double difference = -at(rhs, row), sum = 0;
      for (int64_t k = system.crow[static_cast<size_t>(row)]; k < system.crow[static_cast<size_t>(row) + 1]; ++k) {
        const double value = system.values[static_cast<size_t>(k)];
        difference += value * at(x, system.columns[static_cast<size_t>(k)]);
        sum += std::abs(value);
      }
      residual = std::isfinite(difference) ? std::max(residual, std::abs(difference)) : HUGE_VAL;
      norm_m = std::max(norm_m, sum);
      norm_x = std::max(norm_x, std::abs(at(x, row)));
      norm_b = std::max(norm_b, std::abs(at(rhs, row)));
    }
    if (system.num_verts > 0) worst = std::max(worst, residual / (norm_m * norm_x + norm_b));
  }
  return worst;
}

template <typename Stored, typename Given>
void check_solves(const System& system, const std::vector<int32_t>& buffer, double tolerance) {
  const Factored<Stored, Given> reference(system, buffer, 1);
  CHECK(reference.breakdown.vertex == -1);
  for (const int num_threads : kThreads) {
    CHECK(same_bits(Factored<Stored, Given>(system, buffer, num_threads).factor, reference.factor));
  }
  for (const int num_columns : kColumns) {
    // Large ones take their time, and to a race the number of columns is all the same.
    const bool is_long = system.num_verts > 10000 || kLeastVerts > 0;
    if (is_long && num_columns != 3 && num_columns != 17) continue;
    const std::vector<Given> rhs = make_rhs<Given>(system.num_verts, num_columns);
    std::vector<Given> x = nothing<Given>(static_cast<int64_t>(rhs.size()));
    CHECK(reference.solve_for(rhs, x, num_columns, 1));
    const double error = backward_error(system, rhs, x, num_columns);
    if (!(error <= tolerance)) std::printf("backward error %g with %d columns\n", error, num_columns);
    CHECK(error <= tolerance);
    for (const int num_threads : kThreads) {
      std::vector<Given> again = nothing<Given>(static_cast<int64_t>(rhs.size())), in_place = rhs;
      CHECK(reference.solve_for(rhs, again, num_columns, num_threads) && same_bits(x, again));
      CHECK(reference.solve_for(in_place, in_place, num_columns, num_threads) && same_bits(x, in_place));
    }
  }
  std::vector<Given> nobody;
  CHECK(reference.solve_for(nobody, nobody, 0, 4));
}

// Right-hand sides of a batch, with one matrix for all and with one each, beside each by itself. The arrays have their size
// and no more, so that a sanitizer sees what is read behind them.
template <typename Stored, typename Given>
void check_batches(const System& system, const std::vector<int32_t>& buffer, double tolerance) {
  const Factored<Stored, Given> one(system, buffer, 1);
  const int64_t size = system.num_verts, factor_size = one.view.factor_size();
  for (const int members : kMembers) {
    for (const int num_columns : {3, 5}) {
      const std::vector<Given> rhs = make_rhs<Given>(system.num_verts * members, num_columns);
      const int64_t pitch = size * num_columns;
      const auto member_of = [&](const std::vector<Given>& numbers, int member) {
        return std::vector<Given>(numbers.begin() + member * pitch, numbers.begin() + (member + 1) * pitch);
      };
      for (const bool has_own : {false, true}) {
        std::vector<Stored> factor = one.factor;
        if (has_own) {
          std::vector<Given> values;
          for (int member = 0; member < members; ++member) {
            values.insert(values.end(), system.values.begin(), system.values.end());
          }
          factor = nothing<Stored>(factor_size * members);
          std::vector<Breakdown> results(static_cast<size_t>(members));
          factorize_batch(one.view, values.data(), factor.data(), members % 2 + 1, results);
          for (const Breakdown& result : results) CHECK(result.vertex == -1);
        }
        const Batch batch = {members, has_own ? factor_size : 0};
        std::vector<Given> x = nothing<Given>(static_cast<int64_t>(rhs.size()));
        CHECK(solve(one.view, factor.data(), rhs.data(), x.data(), num_columns, 1, batch) == SolveStatus::kSolved);
        for (int member = 0; member < members; ++member) {
          const std::vector<Given> own_rhs = member_of(rhs, member), own_x = member_of(x, member);
          CHECK(backward_error(system, own_rhs, own_x, num_columns) <= tolerance);
          std::vector<Given> alone = nothing<Given>(static_cast<int64_t>(own_rhs.size()));
          CHECK(one.solve_for(own_rhs, alone, num_columns, 1));
          if (has_own || members < 4 || num_columns != 3) CHECK(same_bits(alone, own_x));
        }
        std::vector<Given> again = nothing<Given>(static_cast<int64_t>(rhs.size()));
        CHECK(solve(one.view, factor.data(), rhs.data(), again.data(), num_columns, 2, batch) == SolveStatus::kSolved);
        CHECK(same_bits(x, again));
        for (size_t bad = 0; bad < rhs.size(); bad += 1 + rhs.size() / 3) {
          std::vector<Given> spoiled = rhs;
          spoiled[bad] = std::numeric_limits<Given>::infinity();
          CHECK(solve(one.view, factor.data(), spoiled.data(), x.data(), num_columns, 2, batch) == SolveStatus::kRhsNotFinite);
        }
      }
    }
  }
}

// Those from 2,000 vertices on are shared between threads; the largest has several levels of supernodes above its tasks.
std::vector<System> make_systems() {
  std::vector<System> systems = {make_system("nothing", graph_of(0, {})), make_system("one vertex", graph_of(1, {})),
                                 make_system("one edge", graph_of(2, {{0, 1}})), make_system("two", graph_of(2, {})),
                                 make_system("isolated vertices", graph_of(2500, {})), make_kite("path", 1, 2200),
                                 make_fan(300, false), make_fan(2100, true), make_kite("complete graph", 130, 0),
                                 make_kite("kite", 390, 1620), make_grid("grid", 25, 17, 1), make_torus(60, 40),
                                 make_torus(180, 140), make_grid("solid", 13, 13, 12), make_scattered()};
  for (uint64_t seed = 0; seed < 24; ++seed) systems.push_back(make_random(seed, seed % 12 == 0 ? 3000 : 250));
  return systems;
}

void test_solves() {
  const char* const set = std::getenv("PT3D_LARGESTEPS_INSTRUCTION_SET");
  const bool is_chosen = set != nullptr && *set != 0;
  for (const System& system : make_systems()) {
    if (system.num_verts < kLeastVerts) continue;
    for (const bool use_positions : {true, false}) {
      if (is_chosen && !use_positions) continue;  // the order has nothing to do with the instruction set
      current_case = system.name + (use_positions ? " with positions" : "");
      const std::vector<int32_t> buffer = analyze_system(system, use_positions, 1);
      for (const int num_threads : kThreads) CHECK(analyze_system(system, use_positions, num_threads) == buffer);
      if (!IndexChecker(system, buffer).run()) continue;  // it is not safe to solve with
      // The inverse of a large dense block multiplies right-hand sides of which next to nothing is left: what it rounds
      // off is as small as M^-1 times them, which M makes larger again.
      const double scale = system.name == "complete graph" ? 10 : 1;
      check_solves<float, float>(system, buffer, 1e-6 * scale);
      check_solves<double, float>(system, buffer, 2e-7);
      check_solves<double, double>(system, buffer, 1e-13 * scale);
      const std::vector<std::string> for_batches = {"nothing", "one vertex", "two", "grid", "torus"};
      if (!use_positions || system.num_verts > 3000 || std::count(for_batches.begin(), for_batches.end(), system.name) == 0) {
        continue;
      }
      check_batches<float, float>(system, buffer, 1e-6 * scale);
      check_batches<double, float>(system, buffer, 2e-7);
      check_batches<double, double>(system, buffer, 1e-13 * scale);
    }
  }
}

template <typename Stored, typename Given>
void test_breakdowns() {
  for (const System& sound : {make_torus(60, 50), make_kite("kite", 390, 1620), make_fan(50, true)}) {
    current_case = "breakdown of " + sound.name;
    Numbers numbers(7);
    const std::vector<int32_t> with = analyze_system(sound, true, 1), without = analyze_system(sound, false, 1);
    for (int trial = 0; trial < 9; ++trial) {
      System system = sound;  // one pivot is negative whenever its turn comes, the others not before it; or two are
      const int32_t one = trial == 0 ? 0 : numbers.below(system.num_verts);
      const int32_t two = trial % 3 == 2 ? numbers.below(system.num_verts) : one;
      for (const int32_t vertex : {one, two}) system.values[system.diagonal(vertex)] = trial % 2 == 0 ? -3 : 0;
      for (const std::vector<int32_t>& buffer : {with, without}) {
        const Breakdown expected = Factored<Stored, Given>(system, buffer, 1).breakdown;
        CHECK(expected.vertex == one || expected.vertex == two);
        CHECK(!(expected.pivot > 0) && expected.diagonal == (trial % 2 == 0 ? -3 : 0));
        for (const int num_threads : kThreads) {
          const Breakdown found = Factored<Stored, Given>(system, buffer, num_threads).breakdown;
          CHECK(found.vertex == expected.vertex && found.pivot == expected.pivot && found.diagonal == expected.diagonal);
        }
      }
    }
    const Factored<Stored, Given> factored(sound, with, 1);
    for (int trial = 0; trial < 30; ++trial) {
      const int num_columns = kColumns[static_cast<size_t>(trial) % kColumns.size()];
      std::vector<Given> rhs = make_rhs<Given>(sound.num_verts, num_columns), x = rhs;
      const Given bad = trial % 2 == 0 ? std::numeric_limits<Given>::quiet_NaN() : -std::numeric_limits<Given>::infinity();
      rhs[static_cast<size_t>(numbers.below(static_cast<int32_t>(rhs.size())))] = bad;
      for (const int num_threads : kThreads) {
        CHECK(factored.status(rhs, x, num_columns, num_threads) == SolveStatus::kRhsNotFinite);
      }
    }
  }
}

// Solutions that are larger than any number of their type.
template <typename Stored, typename Given>
void test_overflow() {
  current_case = "overflow";
  System system = make_torus(60, 50);
  const double large = std::sqrt(static_cast<double>(std::numeric_limits<Given>::max()));
  for (double& value : system.values) value /= large;
  const std::vector<int32_t> buffer = analyze_system(system, true, 1);
  const Factored<Stored, Given> factored(system, buffer, 1);
  for (const int num_columns : kColumns) {
    const auto size = static_cast<size_t>(system.num_verts) * static_cast<size_t>(num_columns);
    const std::vector<Given> rhs(size, static_cast<Given>(4 * large));
    std::vector<Given> x(size);
    for (const int num_threads : kThreads) {
      CHECK(factored.status(rhs, x, num_columns, num_threads) == SolveStatus::kOverflow);
    }
  }
}

}  // namespace

int main() {
  std::printf("test_cholesky: %s\n", kernels().instruction_set);
  test_solves();
  test_breakdowns<float, float>();
  test_breakdowns<double, float>();
  test_breakdowns<double, double>();
  test_overflow<float, float>();
  test_overflow<double, float>();
  test_overflow<double, double>();
  std::printf(num_failures == 0 ? "test_cholesky: all passed\n" : "test_cholesky: %d failures\n", num_failures);
  return num_failures == 0 ? 0 : 1;
}

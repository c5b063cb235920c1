// Tests of the structure of the factor, of the factorisation and of the solves; returns non-zero on failure.
//
// g++ -std=c++17 -pthread -I csrc/core csrc/core/*.cpp csrc/cpu/*.cpp csrc/tests/test_cholesky.cpp
#include <cmath>
#include <cstring>
#include <limits>

#include "../core/index_buffer.h"
#include "../cpu/factorize.h"
#include "../cpu/kernels.h"
#include "../cpu/solve.h"
#include "check.h"
#include "check_index.h"

namespace {

using namespace largesteps;

const std::vector<int> kThreads = {1, 2, 4};
const std::vector<int> kColumns = {1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 24, 27};

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
    if (system.num_verts > 10000 && num_columns != 3 && num_columns != 17) continue;  // these take their time
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

#if defined(__SANITIZE_THREAD__)
constexpr int32_t kLeastVerts = 2000;  // smaller systems have one thread
#else
constexpr int32_t kLeastVerts = 0;
#endif

void test_solves() {
  for (const System& system : make_systems()) {
    if (system.num_verts < kLeastVerts) continue;
    for (const bool use_positions : {true, false}) {
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

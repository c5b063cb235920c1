// Tests of the kernels for GPUs, run by an emulation of CUDA: the solutions against those of the CPU's code, breakdowns, what is
// written where. Returns non-zero on failure.
//
// g++ -std=c++17 -pthread -I csrc/tests csrc/{threads,dissection,structure}/*.cpp csrc/cpu/*.cpp -x c++ csrc/cuda/*.cu csrc/tests/test_cuda.cpp
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../structure/level_index.h"
#include "../cpu/factorize.h"
#include "../cpu/solve.h"
#include "../cuda/factorize.h"
#include "../cuda/solve.h"
#include "check.h"

namespace {

using namespace largesteps;

template <typename T>
std::vector<T> nothing(int64_t size) {
  return std::vector<T>(static_cast<size_t>(size), std::numeric_limits<T>::quiet_NaN());
}

// Memory at a multiple of 16 bytes, full of NaN.
template <typename T>
class Aligned {
 public:
  explicit Aligned(int64_t size) : size_(size), vectors_(static_cast<size_t>(size) * sizeof(T) / 16 + 1) {
    std::fill_n(data(), size, std::numeric_limits<T>::quiet_NaN());
  }
  T* data() { return reinterpret_cast<T*>(vectors_.data()); }
  const T* data() const { return reinterpret_cast<const T*>(vectors_.data()); }
  int64_t size() const { return size_; }
  bool operator==(const Aligned& other) const { return std::memcmp(data(), other.data(), static_cast<size_t>(size_) * sizeof(T)) == 0; }

 private:
  struct alignas(16) Block {
    char bytes[16];
  };
  int64_t size_;
  std::vector<Block> vectors_;
};

std::vector<int32_t> analyze_levels(const System& system) {
  SymbolicOptions options;
  options.merges_levels = true;
  options.dissection.leaf_size = 32;
  return analyze_pattern(system.num_verts, system.crow.data(), system.columns.data(), system.positions.data(), options);
}

std::vector<int64_t> plan_of(const std::vector<int32_t>& buffer, int32_t section) {
  const int32_t* const offsets = buffer.data() + kSectionOffsets;
  const int32_t end = section + 1 < kNumLevelSections ? offsets[section + 1] : static_cast<int32_t>(buffer.size());
  return {buffer.begin() + offsets[section], buffer.begin() + end};
}

template <typename T>
std::vector<T> make_rhs(int64_t size) {
  Numbers numbers(static_cast<uint64_t>(size));
  std::vector<T> rhs;
  for (int64_t k = 0; k < size; ++k) rhs.push_back(static_cast<T>(numbers.below(2001) * 1e-3 - 1));
  return rhs;
}

template <typename Stored, typename Given>
class LevelSolver {
 public:
  LevelSolver(const std::vector<int32_t>& buffer, const std::vector<Given>& values, int64_t num_matrices)
      : buffer_(buffer),
        solve_plan_(plan_of(buffer, kSolvePlan)),
        num_matrices_(num_matrices),
        factor(num_matrices * kLanes * buffer[kFactorBlocks]),
        breakdown(static_cast<size_t>(3 * num_matrices)) {
    const std::vector<int64_t> plan = plan_of(buffer, kFactorPlan);
    Aligned<double> workspace(device::factorize_workspace_bytes(plan.data(), num_matrices) / 8);
    device::factorize(plan.data(), buffer.data(), values.data(), num_matrices, factor.data(), breakdown.data(), workspace.data(),
                      nullptr);
  }

  std::vector<Given> solve(const std::vector<Given>& rhs, int64_t num_members, int64_t num_columns) const {
    const device::Batch batch = {num_members, num_matrices_ == 1 ? 0 : factor.size() / num_matrices_};
    Aligned<Stored> workspace(device::workspace_size(solve_plan_.data(), batch, num_columns));
    std::vector<Given> x = nothing<Given>(static_cast<int64_t>(rhs.size()));
    device::solve(solve_plan_.data(), buffer_.data(), factor.data(), rhs.data(), x.data(), num_columns, batch, workspace.data(),
                  nullptr);
    return x;
  }

 private:
  const std::vector<int32_t>& buffer_;
  std::vector<int64_t> solve_plan_;
  int64_t num_matrices_;

 public:
  Aligned<Stored> factor;
  std::vector<double> breakdown;
};

// The largest difference from the solution of the CPU's code in double precision, relative to the largest number.
template <typename Given>
double difference(const std::vector<Given>& x, const std::vector<double>& truth) {
  double worst = 0, largest = 0;
  for (size_t k = 0; k < x.size(); ++k) {
    const double error = std::abs(static_cast<double>(x[k]) - truth[k]);
    worst = error <= worst ? worst : error;  // NaN is the worst of all
    largest = std::max(largest, std::abs(truth[k]));
  }
  return truth.empty() ? 0 : worst / largest;
}

template <typename Stored, typename Given>
void check_solves(const System& system, const std::vector<int32_t>& buffer, const std::vector<int>& all_columns, int64_t matrices) {
  const double tolerance = sizeof(Given) == 8 ? 4e-12 : sizeof(Stored) == 8 ? 2e-7 : 4e-6;
  const std::vector<int32_t> cpu_buffer = analyze_system(system, true, 1);
  const IndexView cpu{cpu_buffer.data()};
  std::vector<Given> values;
  std::vector<std::vector<double>> cpu_factors;
  for (int64_t k = 0; k < matrices; ++k) {
    std::vector<double> one = system.values;
    for (int32_t vertex = 0; vertex < system.num_verts; ++vertex) one[system.diagonal(vertex)] += static_cast<double>(k);
    values.insert(values.end(), one.begin(), one.end());
    cpu_factors.push_back(nothing<double>(cpu.factor_size()));
    factorize(cpu, one.data(), cpu_factors.back().data(), 1);
  }
  const LevelSolver<Stored, Given> solver(buffer, values, matrices), again(buffer, values, matrices);
  CHECK(solver.factor == again.factor);
  for (int64_t k = 0; k < matrices; ++k) CHECK(solver.breakdown[static_cast<size_t>(3 * k)] == -1);
  for (const int num_columns : all_columns) {
    for (const int64_t members : {int64_t{1}, int64_t{3}}) {
      if (matrices > 1 && members != matrices) continue;
      const int64_t size = int64_t{system.num_verts} * num_columns;
      const std::vector<Given> rhs = make_rhs<Given>(members * size);
      std::vector<double> truth = nothing<double>(members * size);
      const std::vector<double> exact(rhs.begin(), rhs.end());
      for (int64_t member = 0; member < members; ++member) {
        const auto& factor = cpu_factors[static_cast<size_t>(matrices > 1 ? member : 0)];
        solve(cpu, factor.data(), exact.data() + member * size, truth.data() + member * size, num_columns, 1);
      }
      const std::vector<Given> x = solver.solve(rhs, members, num_columns);
      const double error = difference(x, truth);
      if (!(error < tolerance)) std::printf("%d columns, %d members: %g\n", num_columns, static_cast<int>(members), error);
      CHECK(error < tolerance);
      if (members == 3) CHECK(x == again.solve(rhs, members, num_columns));
    }
  }
}

// The plans and what they point to, so that no kernel would read or write where it should not.
void check_plans(const System& system, const std::vector<int32_t>& buffer) {
  const std::vector<int64_t> solve_plan = plan_of(buffer, kSolvePlan), factor_plan = plan_of(buffer, kFactorPlan);
  CHECK(solve_plan[kSolveMagic] == kLevelMagic && factor_plan[kFactorMagic] == kLevelMagic);
  CHECK(solve_plan[kSolveTotalSize] == static_cast<int64_t>(buffer.size()));
  CHECK(static_cast<int64_t>(solve_plan.size()) == kSolvePlanSize + 2 * solve_plan[kSolveNumLevels]);
  CHECK(static_cast<int64_t>(factor_plan.size()) == kFactorPlanSize + 4 * factor_plan[kFactorNumChunks]);
  const int32_t* const first = buffer.data() + solve_plan[kSolveFirst];
  const int32_t* const row_start = buffer.data() + solve_plan[kSolveRowStart];
  for (const bool is_forward : {true, false}) {
    const int32_t* tile = buffer.data() + solve_plan[is_forward ? kSolveForwardTiles : kSolveBackwardTiles];
    std::vector<int32_t> seen(static_cast<size_t>(buffer[kNumSupernodes]), 0);
    for (int64_t level = 0; level < solve_plan[kSolveNumLevels]; ++level) {
      const int64_t num_tiles = solve_plan[static_cast<size_t>(kSolvePlanSize + 2 * level + (is_forward ? 0 : 1))];
      for (int64_t k = 0; k < num_tiles; ++k, tile += 3) {
        CHECK(tile[1] == seen[static_cast<size_t>(tile[0])] && tile[2] > 0);
        seen[static_cast<size_t>(tile[0])] += tile[2];
      }
    }
    for (int32_t s = 0; s < buffer[kNumSupernodes]; ++s) {
      CHECK(seen[static_cast<size_t>(s)] == (is_forward ? row_start[s + 1] - row_start[s] : first[s + 1] - first[s]));
    }
  }
  CHECK(first[buffer[kNumSupernodes]] == system.num_verts);
  const int32_t* const gather_start = buffer.data() + solve_plan[kSolveGatherStart];
  const int64_t num_slots = solve_plan[kSolveNumSlots];
  CHECK(gather_start[0] == 0 && gather_start[system.num_verts + num_slots] == num_slots);
  std::vector<bool> used(static_cast<size_t>(num_slots), false);  // each slot is taken up exactly once
  for (int64_t k = 0; k < num_slots; ++k) {
    const auto slot = static_cast<size_t>(buffer[static_cast<size_t>(solve_plan[kSolveGather] + k)]);
    CHECK(slot < used.size() && !used[slot]);
    if (slot < used.size()) used[slot] = true;
  }
}

void check_breakdowns() {
  current_case = "not positive definite";
  System system = make_torus(20, 15);
  const std::vector<int32_t> buffer = analyze_levels(system);
  const std::vector<double> good = system.values;
  system.values[system.diagonal(77)] = -1;
  std::vector<double> values = good;
  values.insert(values.end(), system.values.begin(), system.values.end());
  values.insert(values.end(), good.begin(), good.end());
  const LevelSolver<double, double> solver(buffer, values, 3);
  CHECK(solver.breakdown[0] == -1 && solver.breakdown[6] == -1);
  CHECK(solver.breakdown[3] == 77 && solver.breakdown[4] < 0 && solver.breakdown[5] == -1);

  current_case = "not finite as stored";
  std::vector<float> tiny(system.values.size(), 0);
  for (int32_t vertex = 0; vertex < system.num_verts; ++vertex) tiny[system.diagonal(vertex)] = 1e-44f;
  CHECK((LevelSolver<float, float>(buffer, tiny, 1).breakdown[0] == -2));
  CHECK((LevelSolver<double, float>(buffer, tiny, 1).breakdown[0] == -1));
}

}  // namespace

int main() {
  setvbuf(stdout, nullptr, _IOLBF, 0);
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)  // under which contexts are slow to switch
  const std::vector<System> systems = {make_torus(15, 11), make_grid("point", 1, 1, 1), make_random(3, 40)};
#else
  const std::vector<System> systems = {make_torus(15, 11),           make_torus(70, 50),         make_grid("cube", 6, 6, 6),
                                       make_fan(150, true),          make_fan(120, false),       make_scattered(),
                                       make_kite("kite", 100, 40),   make_grid("point", 1, 1, 1), make_grid("path", 2000, 1, 1),
                                       make_system("none", graph_of(0, {})), make_system("isolated", graph_of(100, {})),
                                       make_random(1, 300),          make_random(2, 300),        make_random(3, 40)};
#endif
  const std::vector<int> few = {3, 11}, many = {1, 2, 3, 4, 5, 24};
  for (const System& system : systems) {
    current_case = system.name;
    const std::vector<int32_t> buffer = analyze_levels(system);
    check_plans(system, buffer);
    const bool is_small = system.num_verts <= 400, is_first = &system == &systems.front();
    check_solves<float, float>(system, buffer, is_first ? many : is_small ? few : std::vector<int>{3}, 1);
    if (!is_small) continue;
    check_solves<double, double>(system, buffer, is_first ? many : few, 1);
    check_solves<double, float>(system, buffer, {3}, 3);
    check_solves<float, float>(system, buffer, {9}, 3);
  }
  check_breakdowns();
  if (num_failures > 0) std::printf("%d checks failed\n", num_failures);
  return num_failures == 0 ? 0 : 1;
}

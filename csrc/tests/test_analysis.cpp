// Tests of where numbers lie in the factor, and of the patterns that are refused; returns non-zero on failure.
//
// g++ -std=c++17 -pthread csrc/{threads,dissection,structure}/*.cpp csrc/tests/test_analysis.cpp
#include <stdexcept>

#include "../structure/analysis.h"
#include "../structure/layout.h"
#include "check.h"

namespace {

using namespace largesteps;

// Which of `size` numbers belong to something: each may be taken once.
class Places {
 public:
  explicit Places(int64_t size) : taken_(static_cast<size_t>(size), false) {}
  bool take(int64_t begin, int32_t count) {
    bool is_free = begin >= 0 && begin + count <= static_cast<int64_t>(taken_.size());
    for (int64_t k = begin; is_free && k < begin + count; ++k) {
      is_free = !taken_[static_cast<size_t>(k)];
      taken_[static_cast<size_t>(k)] = true;
    }
    return is_free;
  }

 private:
  std::vector<bool> taken_;
};

// No two numbers of G lie at the same place, nor two of -P, each of which takes up `unit` numbers.
template <typename Layout>
void check_layout(int32_t n, int32_t r, int32_t unit) {
  const Layout layout(n, r);
  Places g(kLanes * layout.size_g()), p(kLanes * layout.size_p());
  bool apart = true;
  for (int32_t column = 0; column < n; ++column) {
    for (int32_t row = Layout::first_row(column); row < n; ++row) apart &= g.take(layout.at_g(row, column), unit);
    for (int32_t row = 0; row < r; ++row) apart &= p.take(layout.at_p(row, column), unit);
  }
  CHECK(apart);
}

void test_layouts() {
  for (int32_t n = 0; n <= 40; ++n) {
    for (int32_t r = 0; r <= 40; ++r) {
      current_case = "layout of " + std::to_string(n) + " columns and " + std::to_string(r) + " rows";
      check_layout<BatchLayout>(n, r, kLanes);
      check_layout<SingleLayout>(n, r, 1);
    }
  }
}

// Patterns that are not those of a symmetric matrix with its diagonal.
void test_refusals() {
  current_case = "refusals";
  struct Pattern {
    std::vector<int64_t> crow, columns;
  };
  for (const Pattern& pattern :
       {Pattern{{0, 1, 1}, {0}}, Pattern{{0, 2, 3}, {0, 1, 1}}, Pattern{{0, 1, 2}, {0, 2}}, Pattern{{0, 1, 2}, {0, -1}},
        Pattern{{0, 2, 4}, {1, 0, 0, 1}}, Pattern{{0, 2, 4}, {0, 0, 0, 1}}, Pattern{{1, 1, 2}, {0, 1}},
        Pattern{{0, 2, 1}, {0, 1}}, Pattern{{0, 3, 2}, {0, 1}}, Pattern{{0, 1, 3}, {0, 0, 1}}}) {
    bool refused = false;
    try {
      analyze_pattern(2, pattern.crow.data(), pattern.columns.data(), nullptr, {});
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    CHECK(refused);
  }
}

}  // namespace

int main() {
  test_layouts();
  test_refusals();
  std::printf(num_failures == 0 ? "test_analysis: all passed\n" : "test_analysis: %d failures\n", num_failures);
  return num_failures == 0 ? 0 : 1;
}

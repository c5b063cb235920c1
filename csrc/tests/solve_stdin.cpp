// Solves the systems that come in on standard input, for tests in Python: one process for thousands of them.
//
// A request: five int64 (vertices, entries, whether positions follow, columns of the right-hand side, threads), then the
// crow (int64), columns (int64) and values (float64) of the matrix, positions (vertices, 3) if any and the right-hand
// side (vertices, columns), float64. The answers, for numbers in float64, in float32, and in float32 with a
// factor in float64: an int64, kSolved, kRefused or the vertex where the factorisation broke down, and after kSolved x,
// float64.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <vector>

#include "../structure/analysis.h"
#include "../structure/index_buffer.h"
#include "../cpu/factorize.h"
#include "../cpu/solve.h"

namespace {

using namespace largesteps;

constexpr int64_t kSolved = -1, kRefused = -2;

// In heap blocks of the exact size, so that a sanitizer sees a read or write past the end.
template <typename T>
bool read(std::vector<T>& numbers, int64_t size) {
  numbers = std::vector<T>(static_cast<size_t>(size));
  return size == 0 || std::fread(numbers.data(), sizeof(T), numbers.size(), stdin) == numbers.size();
}

void write_status(int64_t status) { std::fwrite(&status, sizeof status, 1, stdout); }

template <typename Stored, typename Given>
void answer(const IndexView& index, const std::vector<double>& values, const std::vector<double>& rhs,
            int64_t num_columns, int num_threads) {
  const std::vector<Given> matrix(values.begin(), values.end()), b(rhs.begin(), rhs.end());
  std::vector<Stored> factor(static_cast<size_t>(index.factor_size()));
  std::vector<Given> x(b.size());
  const Breakdown breakdown = factorize(index, matrix.data(), factor.data(), num_threads);
  if (breakdown.vertex >= 0) return write_status(breakdown.vertex);
  const SolveStatus status = solve(index, factor.data(), b.data(), x.data(), num_columns, num_threads);
  if (status != SolveStatus::kSolved) return write_status(kRefused);
  write_status(kSolved);
  const std::vector<double> numbers(x.begin(), x.end());
  if (!numbers.empty()) std::fwrite(numbers.data(), sizeof(double), numbers.size(), stdout);
}

}  // namespace

int main() {
  std::vector<int64_t> sizes, crow, columns;
  std::vector<double> values, positions, rhs;
  while (read(sizes, 5)) {
    const int64_t num_verts = sizes[0], num_columns = sizes[3];
    const bool has_positions = sizes[2] != 0;
    if (!read(crow, num_verts + 1) || !read(columns, sizes[1]) || !read(values, sizes[1]) ||
        (has_positions && !read(positions, 3 * num_verts)) || !read(rhs, num_verts * num_columns)) {
      std::fprintf(stderr, "solve_stdin: the input ends inside a request\n");
      return 1;
    }
    const auto num_threads = static_cast<int>(sizes[4]);
    SymbolicOptions options;
    options.dissection.num_threads = num_threads;
    try {
      const std::vector<int32_t> buffer = analyze_pattern(num_verts, crow.data(), columns.data(),
                                                          has_positions ? positions.data() : nullptr, options);
      answer<double, double>({buffer.data()}, values, rhs, num_columns, num_threads);
      answer<float, float>({buffer.data()}, values, rhs, num_columns, num_threads);
      answer<double, float>({buffer.data()}, values, rhs, num_columns, num_threads);
    } catch (const std::exception& exception) {
      std::fprintf(stderr, "solve_stdin: %s\n", exception.what());
      for (int k = 0; k < 3; ++k) write_status(kRefused);
    }
    std::fflush(stdout);
  }
  return 0;
}

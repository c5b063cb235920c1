// The operators of the sparse Cholesky factorisation on the CPU. They check arguments and convert tensors to pointers.
//
// They use torch's stable interface, so one build works with later versions of torch. For a wrong argument an operator throws
// an exception. Its text names the argument, what was expected and what came.
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "../structure/analysis.h"
#include "../structure/index_buffer.h"
#include "../structure/level_index.h"
#include "../cpu/factorize.h"
#include "../cpu/solve.h"
#include "checks.h"
#include "version.h"

namespace {

using namespace largesteps::bindings;

// by_levels: makes the index for the kernels of a GPU.
Tensor analyze(const Tensor& crow_indices, const Tensor& col_indices, const std::optional<Tensor>& positions,
               int64_t leaf_size, bool by_levels) {
  check_array(crow_indices, "crow_indices", ScalarType::Long, "int64", 1);
  check_array(col_indices, "col_indices", ScalarType::Long, "int64", 1);
  check(crow_indices.numel() >= 1, "crow_indices", "at least one number");
  check(leaf_size >= 1 && leaf_size <= 1024, "leaf_size", "a number in [1, 1024], got ", leaf_size);
  const int64_t num_verts = crow_indices.numel() - 1;
  const auto* crow = static_cast<const int64_t*>(crow_indices.const_data_ptr());
  check(crow[num_verts] == col_indices.numel(), "crow_indices",
        "the number of entries at its end, ", col_indices.numel(), ", got ", crow[num_verts]);
  const double* points = nullptr;
  if (positions.has_value()) {
    check_array(*positions, "positions", ScalarType::Double, "float64", 2);
    check(positions->size(0) == num_verts && positions->size(1) == 3, "positions",
          "the shape (", num_verts, ", 3)");
    points = static_cast<const double*>(positions->const_data_ptr());
  }
  largesteps::SymbolicOptions options;
  options.dissection.leaf_size = static_cast<int32_t>(leaf_size);
  options.dissection.num_threads = num_threads();
  options.merges_levels = by_levels;
  std::optional<largesteps::Analysis> analysis;
  std::string error;
  try {
    analysis.emplace(num_verts, crow, static_cast<const int64_t*>(col_indices.const_data_ptr()), points, options);
  } catch (const std::exception& exception) {
    error = exception.what();
  }
  STD_TORCH_CHECK(error.empty(), "matrix: ", error);
  Tensor index = torch::stable::new_empty(crow_indices, {analysis->size()}, ScalarType::Int);
  analysis->write(static_cast<int32_t*>(index.mutable_data_ptr()));
  return index;
}

largesteps::IndexView view_of(const Tensor& index) {
  check_array(index, "index", ScalarType::Int, "int32", 1);
  const auto* data = static_cast<const int32_t*>(index.const_data_ptr());
  check(largesteps::looks_valid(data, index.numel()), "index", "a buffer made by analyze");
  return {data};
}

// Takes either kind of buffer; both begin in the same way.
Tensor count_entries(const Tensor& index) {
  check_array(index, "index", ScalarType::Int, "int32", 1);
  const auto* data = static_cast<const int32_t*>(index.const_data_ptr());
  const bool is_by_levels = index.numel() >= largesteps::kHeaderSize && data[largesteps::kMagicNumber] == largesteps::kLevelMagic;
  const largesteps::IndexView view = is_by_levels ? largesteps::IndexView{data} : view_of(index);
  Tensor count = torch::stable::new_empty(index, {}, ScalarType::Long);
  *static_cast<int64_t*>(count.mutable_data_ptr()) = largesteps::count_factor_entries(view);
  return count;
}

std::tuple<Tensor, Tensor> factorize(const Tensor& values, const Tensor& index, bool store_double) {
  const largesteps::IndexView view = view_of(index);
  const bool of_batch = is_batch(values);
  check_array(values, "values", values.scalar_type(), "float", of_batch ? 2 : 1);
  const int64_t num_matrices = of_batch ? values.size(0) : 1, num_entries = values.size(of_batch ? 1 : 0);
  check(num_entries == view[largesteps::kNumEntries], "values",
        view[largesteps::kNumEntries], " numbers, one per entry of the pattern that was analysed, got ", num_entries);
  const bool given_is_double = is_double(values, "values"), stored_is_double = store_double || given_is_double;
  const ScalarType stored_type = stored_is_double ? ScalarType::Double : ScalarType::Float;
  Tensor factor = of_batch ? torch::stable::new_empty(values, {num_matrices, view.factor_size()}, stored_type)
                           : torch::stable::new_empty(values, {view.factor_size()}, stored_type);
  Tensor breakdown = of_batch ? torch::stable::new_empty(values, {num_matrices, 3}, ScalarType::Double)
                              : torch::stable::new_empty(values, {3}, ScalarType::Double);
  std::vector<largesteps::Breakdown> results(static_cast<size_t>(num_matrices));
  std::string error;
  with_types(stored_is_double, given_is_double, [&](auto stored, auto given) {
    try {
      largesteps::factorize_batch(view, static_cast<const decltype(given)*>(values.const_data_ptr()),
                                  static_cast<decltype(stored)*>(factor.mutable_data_ptr()), num_threads(), results);
    } catch (const std::exception& exception) {  // out of memory
      error = exception.what();
    }
  });
  STD_TORCH_CHECK(error.empty(), "factorize: ", error);
  auto* numbers = static_cast<double*>(breakdown.mutable_data_ptr());
  for (const largesteps::Breakdown& result : results) {
    *numbers++ = result.vertex < 0 && result.overflows ? -2 : result.vertex;
    *numbers++ = result.pivot;
    *numbers++ = result.diagonal;
  }
  return {factor, breakdown};
}

// values: those of the matrix. The derivative needs them as an argument; the solve does not. One factor serves all right-hand
// sides (batch, num_verts, k), or each has its own factor.
Tensor solve(const Tensor& values, const Tensor& factor, const Tensor& index, const Tensor& rhs, int64_t) {
  const largesteps::IndexView view = view_of(index);
  const int64_t dim = rhs.dim();
  check(factor.is_cpu() && values.is_cpu() && rhs.is_cpu(), "rhs", "it on the CPU, with the matrix and its factor");
  const bool of_batch =
      check_solve(values, factor, rhs, view[largesteps::kNumVerts], view[largesteps::kNumEntries], view.factor_size());
  const bool given_is_double = is_double(rhs, "rhs"), stored_is_double = is_double(factor, "factor");
  const Tensor contiguous = rhs.is_contiguous() ? rhs : torch::stable::contiguous(rhs);
  const int64_t sizes[] = {rhs.size(0), rhs.size(dim - 2), rhs.size(dim - 1)};
  Tensor x = empty(sizes + 3 - dim, dim, given_is_double ? ScalarType::Double : ScalarType::Float,
                   aoti_torch_device_type_cpu(), 0);
  const largesteps::Batch batch = {dim == 3 ? rhs.size(0) : 1, of_batch ? view.factor_size() : 0};
  auto status = largesteps::SolveStatus::kSolved;
  std::string error;
  with_types(stored_is_double, given_is_double, [&](auto stored, auto given) {
    try {
      status = largesteps::solve(view, static_cast<const decltype(stored)*>(factor.const_data_ptr()),
                                 static_cast<const decltype(given)*>(contiguous.const_data_ptr()),
                                 static_cast<decltype(given)*>(x.mutable_data_ptr()), rhs.size(dim - 1), num_threads(),
                                 batch);
    } catch (const std::exception& exception) {
      error = exception.what();
    }
  });
  STD_TORCH_CHECK(error.empty(), "solve: ", error);
  STD_TORCH_CHECK(status != largesteps::SolveStatus::kRhsNotFinite, "rhs: expected finite numbers, got NaN or infinity");
  STD_TORCH_CHECK(status == largesteps::SolveStatus::kSolved,
                  "rhs: expected numbers whose solution the dtype can hold, got an overflow");
  return x;
}

}  // namespace

STABLE_TORCH_LIBRARY(pt3d_largesteps, library) {
  library.def("version() -> int");
  library.def("analyze(Tensor crow_indices, Tensor col_indices, Tensor? positions, int leaf_size, bool by_levels) -> Tensor");
  library.def("count_entries(Tensor index) -> Tensor");
  library.def("factorize(Tensor values, Tensor index, bool store_double) -> (Tensor, Tensor)");
  library.def("solve(Tensor values, Tensor factor, Tensor index, Tensor rhs, int direction) -> Tensor");
  library.def("solve_detached(Tensor values, Tensor factor, Tensor index, Tensor rhs, int direction) -> Tensor");
  // The GPU operators are in a separate library. They also take a plan: the numbers of the buffer that the host needs.
  library.def("factorize_levels(Tensor values, Tensor index, bool store_double, int[] plan) -> (Tensor, Tensor)");
  library.def("solve_levels(Tensor values, Tensor factor, Tensor index, Tensor rhs, int direction, int[] plan) -> Tensor");
  library.def(
      "solve_levels_detached(Tensor values, Tensor factor, Tensor index, Tensor rhs, int direction, int[] plan) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(pt3d_largesteps, CPU, library) {
  library.impl("analyze", TORCH_BOX(&analyze));
  library.impl("count_entries", TORCH_BOX(&count_entries));
  library.impl("factorize", TORCH_BOX(&factorize));
  library.impl("solve", TORCH_BOX(&solve));
  library.impl("solve_detached", TORCH_BOX(&solve));
}

// It has no tensor that would say which device it is for.
STABLE_TORCH_LIBRARY_IMPL(pt3d_largesteps, CompositeExplicitAutograd, library) { library.impl("version", TORCH_BOX(&version)); }

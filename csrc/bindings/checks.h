// Checks of the operators' arguments, and their error messages.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <exception>
#include <initializer_list>
#include <sstream>
#include <string>

namespace largesteps::bindings {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

[[noreturn]] inline void fail(const char* name, const std::string& expected) {
  STD_TORCH_CHECK(false, name, ": expected ", expected);
  std::terminate();  // not reached
}

// Builds the text only if the check fails: building it may take longer than a solve.
template <typename... Parts>
void check(bool condition, const char* name, const Parts&... expected) {
  if (condition) return;
  std::ostringstream text;
  (text << ... << expected);
  fail(name, text.str());
}

inline bool is_double(const Tensor& tensor, const char* name) {
  const bool result = tensor.scalar_type() == ScalarType::Double;
  check(result || tensor.scalar_type() == ScalarType::Float, name, "float32 or float64");
  return result;
}

// Calls the function with values of the stored and the given type. The only mixture is given float with stored double.
template <typename Function>
void with_types(bool stored_is_double, bool given_is_double, Function function) {
  if (given_is_double) {
    function(double(), double());
  } else if (stored_is_double) {
    function(double(), float());
  } else {
    function(float(), float());
  }
}

// Makes a contiguous tensor without the dispatcher. The dispatcher looks an operator up by name, which costs a tenth of a small
// solve.
inline Tensor empty(const int64_t* sizes, int64_t dim, ScalarType type, int32_t device_type, int32_t device_index) {
  int64_t strides[4];
  int64_t stride = 1;
  for (int64_t k = dim; k-- > 0; stride *= sizes[k]) strides[k] = stride;
  const int32_t dtype = type == ScalarType::Double  ? aoti_torch_dtype_float64()
                        : type == ScalarType::Float ? aoti_torch_dtype_float32()
                        : type == ScalarType::Int   ? aoti_torch_dtype_int32()
                                                    : aoti_torch_dtype_uint8();
  AtenTensorHandle handle;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(dim, sizes, strides, dtype, device_type, device_index, &handle));
  return Tensor(handle);
}

inline Tensor empty_on_cpu(std::initializer_list<int64_t> sizes, ScalarType type) {
  return empty(sizes.begin(), static_cast<int64_t>(sizes.size()), type, aoti_torch_device_type_cpu(), 0);
}

inline void check_array(const Tensor& tensor, const char* name, ScalarType type, const char* type_name, int64_t dim) {
  check(tensor.is_cpu() && tensor.scalar_type() == type && tensor.dim() == dim && tensor.is_contiguous(), name,
        "a contiguous ", type_name, " tensor of ", dim, " dimensions on the CPU");
}

inline int num_threads() { return static_cast<int>(torch::stable::get_num_threads()); }

// Whether a tensor belongs to several matrices with the same pattern, (batch, n), and not to one matrix, (n,).
inline bool is_batch(const Tensor& tensor) { return tensor.dim() == 2; }

// The checks of both solves; all tensors are on one device. Returns whether each right-hand side has its own factor.
inline bool check_solve(const Tensor& values, const Tensor& factor, const Tensor& rhs, int64_t num_verts, int64_t num_entries,
                        int64_t factor_size) {
  const bool of_batch = is_batch(factor);
  const int64_t dim = rhs.dim();
  check(factor.dim() == (of_batch ? 2 : 1) && factor.is_contiguous() && factor.size(of_batch ? 1 : 0) == factor_size, "factor",
        "what factorize made with this index");
  check(values.dim() == factor.dim() && values.size(of_batch ? 1 : 0) == num_entries &&
            (!of_batch || values.size(0) == factor.size(0)),
        "values", "the values that were factorised");
  check(rhs.scalar_type() == values.scalar_type(), "rhs", "the dtype of the matrix");
  check((dim == 3 || (dim == 2 && !of_batch)) && rhs.size(dim - 2) == num_verts, "rhs", "the shape (", num_verts,
        ", k) or (batch, ", num_verts, ", k)");
  check(!of_batch || rhs.size(0) == factor.size(0), "rhs", "one for each of the ", factor.size(0), " matrices");
  check(is_double(factor, "factor") || !is_double(rhs, "rhs"), "factor", "float64, as the matrix");
  return of_batch;
}

}  // namespace largesteps::bindings

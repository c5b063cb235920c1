// The operators of the sparse Cholesky factorisation on a GPU. They check arguments and convert tensors to pointers.
//
// They launch kernels on the current stream of the tensors' device and never wait. They take scratch memory from torch's
// allocator. They read no number from the device: the plan holds what the host needs. Compiled without USE_CUDA, they are for
// the tests, which emulate the kernels on the CPU.
#include <cstdint>
#include <tuple>
#include <vector>

#include "../structure/index_buffer.h"
#include "../structure/level_index.h"
#include "../cuda/factorize.h"
#include "../cuda/solve.h"
#include "checks.h"
#include "version.h"
#if defined(USE_CUDA)
#include <torch/csrc/stable/accelerator.h>
#endif

namespace {

using namespace largesteps;
using namespace largesteps::bindings;

#if defined(USE_CUDA)

bool is_here(const Tensor& tensor) { return tensor.is_cuda(); }

int32_t device_type() { return aoti_torch_device_type_cuda(); }

// Makes the tensor's device the current device during its lifetime.
class Device {
 public:
  explicit Device(const Tensor& tensor) : index_(tensor.get_device_index()), guard_(index_) {}
  int32_t index() const { return index_; }
  device::Stream stream() const {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream));
    return static_cast<device::Stream>(stream);
  }

 private:
  int32_t index_;
  torch::stable::accelerator::DeviceGuard guard_;
};

#else

bool is_here(const Tensor& tensor) { return tensor.is_cpu(); }

int32_t device_type() { return aoti_torch_device_type_cpu(); }

class Device {
 public:
  explicit Device(const Tensor&) {}
  int32_t index() const { return 0; }
  device::Stream stream() const { return nullptr; }
};

#endif

void check_launched(const char* name) {
  const char* const error = device::last_error();
  STD_TORCH_CHECK(error == nullptr, name, ": ", error == nullptr ? "" : error);
}

void check_here(const Tensor& tensor, const char* name, const Tensor& index) {
  check(is_here(tensor) && tensor.get_device_index() == index.get_device_index(), name, "it on the device of the factor");
}

void check_index(const Tensor& index) {
  check(is_here(index) && index.scalar_type() == ScalarType::Int && index.dim() == 1 && index.is_contiguous(), "index",
        "a contiguous int32 tensor of 1 dimension on the GPU");
}

void check_plan(const std::vector<int64_t>& plan, const Tensor& index, int64_t size, int64_t place_of_count, int64_t numbers_each) {
  const bool is_plan = static_cast<int64_t>(plan.size()) >= size && plan[0] == kLevelMagic && plan[1] == index.numel() &&
                       static_cast<int64_t>(plan.size()) == size + numbers_each * plan[static_cast<size_t>(place_of_count)];
  check(is_plan, "plan", "the one that was made with this index");
}

std::tuple<Tensor, Tensor> factorize(const Tensor& values, const Tensor& index, bool store_double, std::vector<int64_t> plan) {
  check_index(index);
  check_plan(plan, index, kFactorPlanSize, kFactorNumChunks, 4);
  check_here(values, "values", index);
  const bool of_batch = is_batch(values);
  const int64_t num_entries = plan[kFactorNumEntries], num_matrices = of_batch ? values.size(0) : 1;
  check(values.dim() == (of_batch ? 2 : 1) && values.is_contiguous() && values.size(of_batch ? 1 : 0) == num_entries, "values",
        num_entries, " numbers, one per entry of the pattern that was analysed");
  const bool given_is_double = is_double(values, "values"), stored_is_double = store_double || given_is_double;
  const Device device(index);
  const auto make = [&](int64_t numbers_each, ScalarType type) {
    const int64_t sizes[] = {num_matrices, numbers_each};
    return empty(sizes + (of_batch ? 0 : 1), of_batch ? 2 : 1, type, device_type(), device.index());
  };
  Tensor factor = make(kLanes * plan[kFactorFactorBlocks], stored_is_double ? ScalarType::Double : ScalarType::Float);
  Tensor breakdown = make(3, ScalarType::Double);
  const int64_t num_bytes = num_matrices == 0 ? 0 : device::factorize_workspace_bytes(plan.data(), num_matrices);
  Tensor workspace = empty(&num_bytes, 1, ScalarType::Byte, device_type(), device.index());
  with_types(stored_is_double, given_is_double, [&](auto stored, auto given) {
    device::factorize(plan.data(), static_cast<const int32_t*>(index.const_data_ptr()),
                      static_cast<const decltype(given)*>(values.const_data_ptr()), num_matrices,
                      static_cast<decltype(stored)*>(factor.mutable_data_ptr()),
                      static_cast<double*>(breakdown.mutable_data_ptr()), workspace.mutable_data_ptr(), device.stream());
  });
  check_launched("factorize");
  return {factor, breakdown};
}

Tensor solve(const Tensor& values, const Tensor& factor, const Tensor& index, const Tensor& rhs, int64_t,
             std::vector<int64_t> plan) {
  check_index(index);
  check_plan(plan, index, kSolvePlanSize, kSolveNumLevels, 2);
  check_here(factor, "factor", index);
  check_here(values, "values", index);
  check_here(rhs, "rhs", index);
  const int64_t dim = rhs.dim(), factor_size = kLanes * plan[kSolveFactorBlocks];
  const bool of_batch = check_solve(values, factor, rhs, plan[kSolveNumVerts], plan[kSolveNumEntries], factor_size);
  check(reinterpret_cast<uintptr_t>(factor.const_data_ptr()) % 16 == 0, "factor", "numbers that begin at a multiple of 16 bytes");
  const bool given_is_double = is_double(rhs, "rhs"), stored_is_double = is_double(factor, "factor");
  const Device device(index);
  const Tensor contiguous = rhs.is_contiguous() ? rhs : torch::stable::contiguous(rhs);
  const int64_t sizes[] = {rhs.size(0), rhs.size(dim - 2), rhs.size(dim - 1)};
  Tensor x = empty(sizes + 3 - dim, dim, rhs.scalar_type(), device_type(), device.index());
  const device::Batch batch = {dim == 3 ? rhs.size(0) : 1, of_batch ? factor_size : 0};
  const int64_t size = device::workspace_size(plan.data(), batch, rhs.size(dim - 1));
  Tensor workspace = empty(&size, 1, factor.scalar_type(), device_type(), device.index());
  with_types(stored_is_double, given_is_double, [&](auto stored, auto given) {
    device::solve(plan.data(), static_cast<const int32_t*>(index.const_data_ptr()),
                  static_cast<const decltype(stored)*>(factor.const_data_ptr()),
                  static_cast<const decltype(given)*>(contiguous.const_data_ptr()),
                  static_cast<decltype(given)*>(x.mutable_data_ptr()), rhs.size(dim - 1), batch,
                  static_cast<decltype(stored)*>(workspace.mutable_data_ptr()), device.stream());
  });
  check_launched("solve");
  return x;
}

}  // namespace

#if defined(USE_CUDA)
STABLE_TORCH_LIBRARY_IMPL(pt3d_largesteps, CUDA, library) {
#else
STABLE_TORCH_LIBRARY_IMPL(pt3d_largesteps, CPU, library) {
#endif
  library.impl("factorize_levels", TORCH_BOX(&factorize));
  library.impl("solve_levels", TORCH_BOX(&solve));
  library.impl("solve_levels_detached", TORCH_BOX(&solve));
}

#if defined(USE_CUDA)
STABLE_TORCH_LIBRARY_FRAGMENT(pt3d_largesteps, library) { library.def("cuda_version() -> int"); }

STABLE_TORCH_LIBRARY_IMPL(pt3d_largesteps, CompositeExplicitAutograd, library) {
  library.impl("cuda_version", TORCH_BOX(&version));
}
#endif

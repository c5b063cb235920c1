// Checks and conversions that the operators of the renderer share.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>

#include "../renderer/batch.h"
#include "checks.h"

namespace largesteps::bindings {

using largesteps::renderer::Batch;
namespace renderer = largesteps::renderer;

// Runs the function. What it throws, for want of memory or of valid meshes, becomes torch's exception.
template <typename Function>
void guarded(Function function) {
  std::string error;
  try {
    function();
  } catch (const std::exception& exception) {
    error = exception.what();
  }
  STD_TORCH_CHECK(error.empty(), error);
}

// The same with a number of the tensor's type.
template <typename Function>
void with_type(const Tensor& tensor, const char* name, Function function) {
  if (is_double(tensor, name)) {
    guarded([&] { function(double()); });
  } else {
    guarded([&] { function(float()); });
  }
}

template <typename T>
const T* data_of(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <typename T>
const T* data_of(const std::optional<Tensor>& tensor) {
  return tensor ? static_cast<const T*>(tensor->const_data_ptr()) : nullptr;
}
template <typename T>
T* data_of(Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

inline Batch batch_of(const Tensor& index, int64_t num_images) {
  check_array(index, "index", ScalarType::Int, "int32", 1);
  const auto* data = data_of<int32_t>(index);
  check(renderer::looks_valid(data, index.numel()), "index", "a buffer made by mesh_index");
  const Batch batch = {{data}, num_images, num_threads()};
  const int64_t num_meshes = data[renderer::kNumMeshes];
  check(num_meshes > 0 && num_images >= num_meshes && num_images % num_meshes == 0, "images", "equally many for each of ",
        num_meshes, " meshes, got ", num_images);
  return batch;
}

inline void check_floats(const Tensor& tensor, const char* name, const Tensor& like) {
  check(tensor.is_cpu() && tensor.is_contiguous() && tensor.scalar_type() == like.scalar_type(), name,
        "a contiguous tensor on the CPU of the vertices' dtype");
}

inline void check_points(const Batch& batch, const Tensor& points) {
  check(points.is_cpu() && points.is_contiguous() && points.dim() == 3 && points.size(0) >= 1 && points.size(0) <= 256 &&
            points.size(1) == batch.num_rows() && points.size(2) == 4,
        "points", "contiguous planes, at least one and at most 256, of 4 numbers for each vertex of each image: the shape (1 + b, ",
        batch.num_rows(), ", 4)");
}

// The number of blocks of attributes.
inline int32_t blocks_of(const Batch& batch, const Tensor& points) {
  check_points(batch, points);
  return static_cast<int32_t>(points.size(0) - 1);
}

inline Tensor empty_like_points(const Tensor& points) {
  return empty_on_cpu({points.size(0), points.size(1), 4}, points.scalar_type());
}

}  // namespace largesteps::bindings

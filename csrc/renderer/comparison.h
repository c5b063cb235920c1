// The difference of a batch of images from given pictures, without images that are stored.
#pragma once

#include <cstdint>
#include <vector>

#include "batch.h"
#include "drawing.h"
#include "frame.h"

namespace largesteps::renderer {

// The mean differences from given pictures, one number for each image, and the gradient of their sum unless null.
template <typename T>
void compare(const Batch& batch, const Frame<T>& frame, const Drawing<T>& drawing, const std::vector<Target<T>>& targets,
             T* losses, T* to_points);

// The gradient of points times a number for each image.
template <typename T>
void scale_gradient(const Batch& batch, int32_t blocks, const T* scales, const T* gradient, T* to_points);

}  // namespace largesteps::renderer

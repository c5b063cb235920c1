// What each pixel of a batch of images sees.
#pragma once

#include <cstdint>
#include <vector>

#include "batch.h"
#include "frame.h"
#include "outlines.h"

namespace largesteps::renderer {

// depth and faces: num_images x height x pitch. The crossings are empty unless outlined.
template <typename T>
std::vector<Crossing> rasterize(const Batch& batch, const Frame<T>& frame, const Camera<T>& camera, const T* points,
                                bool outlined, T* depth, int32_t* faces);

// Whether crossings can be those of the batch's pictures: of these pixels, of edges of the image's mesh, and in order.
bool crossings_fit(const Batch& batch, int height, int width, const Crossing* crossings, int64_t count);

}  // namespace largesteps::renderer

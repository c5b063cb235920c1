// Pictures of a batch, and their outlines; and back.
#pragma once

#include "batch.h"
#include "drawing.h"
#include "frame.h"

namespace largesteps::renderer {

constexpr int32_t kMostChannels = 1024;  // of a picture

// images: num_images x height x width x channels.
template <typename T>
void draw(const Batch& batch, const Frame<T>& frame, const Drawing<T>& drawing, T* images);

template <typename T>
void draw_backward(const Batch& batch, const Frame<T>& frame, const Drawing<T>& drawing, const T* gradient, T* to_points);

// The outlines of pictures that something else has drawn: changes them in place.
template <typename T>
void blend(const Batch& batch, const Frame<T>& frame, const Drawing<T>& drawing, T* images);

// to_images holds the gradient of the result, and is changed to that of the given images.
template <typename T>
void blend_backward(const Batch& batch, const Frame<T>& frame, const Drawing<T>& drawing, const T* images, T* to_images,
                    T* to_points);

}  // namespace largesteps::renderer

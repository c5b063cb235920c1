// The operators of the renderer that work on pixels. They check arguments and convert tensors to pointers; ../renderer computes.
//
//   rasterize  the points -> the visible face of each pixel, and the crossings of outlines
//   draw       points and faces -> pictures
//   compare    points and faces -> only the difference of the pictures from given ones
//   blend      the outlines of pictures that were drawn otherwise
#include <algorithm>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "../renderer/comparison.h"
#include "../renderer/pictures.h"
#include "../renderer/visibility.h"
#include "render_checks.h"

namespace {

using namespace largesteps::bindings;
using largesteps::renderer::Camera;
using largesteps::renderer::Crossing;
using largesteps::renderer::Difference;
using largesteps::renderer::Drawing;
using largesteps::renderer::Frame;
using largesteps::renderer::Mode;
using largesteps::renderer::Target;

void check_size(int64_t height, int64_t width) {
  check(height > 0 && width > 0 && height <= 32768 && width <= 32768, "image_size", "from 1 to 32,768 rows and columns, got ",
        height, " and ", width);
}

// z_clip: negative for none.
std::tuple<Tensor, Tensor, Tensor> rasterize(const Tensor& points, const Tensor& index, int64_t num_images, int64_t height,
                                             int64_t width, bool perspective, double z_clip, bool culls, bool outlined) {
  const Batch batch = batch_of(index, num_images);
  check_points(batch, points);
  check_size(height, width);
  const int64_t pitch = Frame<float>::pitch_of(static_cast<int>(width));
  Tensor depth = empty_on_cpu({num_images, height, pitch}, points.scalar_type());
  Tensor faces = empty_on_cpu({num_images, height, pitch}, ScalarType::Int);
  std::vector<Crossing> crossings;
  with_type(points, "points", [&](auto number) {
    using T = decltype(number);
    const Frame<T> frame(static_cast<int>(height), static_cast<int>(width));
    const Camera<T> camera = {perspective, z_clip >= 0, culls, z_clip >= 0 ? static_cast<T>(z_clip) : T(0)};
    crossings = renderer::rasterize(batch, frame, camera, data_of<T>(points), outlined, data_of<T>(depth), data_of<int32_t>(faces));
  });
  Tensor rows = empty_on_cpu({static_cast<int64_t>(crossings.size()), 6}, ScalarType::Int);
  std::copy(crossings.begin(), crossings.end(), reinterpret_cast<Crossing*>(data_of<int32_t>(rows)));
  return {depth, faces, rows};
}

const Crossing* crossings_in(const Tensor& tensor) { return reinterpret_cast<const Crossing*>(data_of<int32_t>(tensor)); }

template <typename T>
Drawing<T> drawing_of(const Tensor& points, int32_t blocks, const Tensor* faces, const Tensor& crossings, bool perspective, Mode mode,
                      int32_t channels, const std::vector<double>& background) {
  Drawing<T> d = {data_of<T>(points),
                  blocks,
                  faces ? data_of<int32_t>(*faces) : nullptr,
                  crossings_in(crossings),
                  crossings.size(0),
                  perspective,
                  mode,
                  channels,
                  {}};
  for (size_t k = 0; k < std::min<size_t>(4, background.size()); ++k) d.background[k] = static_cast<T>(background[k]);
  return d;
}

void check_crossings(const Tensor& crossings, const Batch& batch, int height, int width) {
  check_array(crossings, "crossings", ScalarType::Int, "int32", 2);
  check(crossings.size(1) == 6 && renderer::crossings_fit(batch, height, width, crossings_in(crossings), crossings.size(0)),
        "crossings", "those that rasterize found for images of this size");
}

struct Request {  // what draw and compare have in common
  Batch batch;
  int32_t blocks;
  int height, width;
  Mode mode;
  int32_t channels;
};

Request request_of(const Tensor& points, const Tensor& faces, const Tensor& crossings, const Tensor& index, int64_t width,
                   int64_t mode) {
  check_array(faces, "faces", ScalarType::Int, "int32", 3);
  check_size(faces.size(1), width);
  check(faces.size(2) == Frame<float>::pitch_of(static_cast<int>(width)), "faces", "those that rasterize found for this width");
  const Batch batch = batch_of(index, faces.size(0));
  check_crossings(crossings, batch, static_cast<int>(faces.size(1)), static_cast<int>(width));
  const int32_t blocks = blocks_of(batch, points);
  check(mode >= 0 && mode <= 4, "mode", "a number from 0 to 4");
  const Mode which = static_cast<Mode>(mode);
  check(blocks >= (which == Mode::kProduct ? 2 : which == Mode::kSilhouette || which == Mode::kWeights ? 0 : 1), "points",
        "attributes for this mode");
  const int32_t channels = which == Mode::kSilhouette   ? 1
                           : which == Mode::kWeights    ? 3
                           : which == Mode::kAttributes ? 4 * blocks
                                                        : 4;
  return {batch, blocks, static_cast<int>(faces.size(1)), static_cast<int>(width), which, channels};
}

Tensor draw(const Tensor& points, const Tensor& faces, const Tensor& crossings, const Tensor& index, int64_t width, bool perspective,
            int64_t mode, const std::vector<double> background) {
  const Request r = request_of(points, faces, crossings, index, width, mode);
  Tensor images = empty_on_cpu({faces.size(0), faces.size(1), width, r.channels}, points.scalar_type());
  with_type(points, "points", [&](auto number) {
    using T = decltype(number);
    renderer::draw(r.batch, Frame<T>(r.height, r.width),
                   drawing_of<T>(points, r.blocks, &faces, crossings, perspective, r.mode, r.channels, background), data_of<T>(images));
  });
  return images;
}

void check_images(const Tensor& images, const char* name, const Tensor& points, int64_t num_images, int64_t height, int64_t width,
                  int64_t channels) {
  check_floats(images, name, points);
  check(images.dim() == 4 && images.size(0) == num_images && images.size(1) == height && images.size(2) == width &&
            images.size(3) == channels,
        name, "the shape (", num_images, ", ", height, ", ", width, ", ", channels, ")");
}

Tensor draw_backward(const Tensor& gradient, const Tensor& points, const Tensor& faces, const Tensor& crossings, const Tensor& index,
                     int64_t width, bool perspective, int64_t mode, const std::vector<double> background) {
  const Request r = request_of(points, faces, crossings, index, width, mode);
  const Tensor given = gradient.is_contiguous() ? gradient : torch::stable::contiguous(gradient);
  check_images(given, "gradient", points, faces.size(0), r.height, r.width, r.channels);
  Tensor to_points = empty_like_points(points);
  with_type(points, "points", [&](auto number) {
    using T = decltype(number);
    renderer::draw_backward(r.batch, Frame<T>(r.height, r.width),
                            drawing_of<T>(points, r.blocks, &faces, crossings, perspective, r.mode, r.channels, background),
                            data_of<T>(given), data_of<T>(to_points));
  });
  return to_points;
}

struct Blending {
  Batch batch;
  int32_t blocks, channels;
  int height, width;
};

Blending blending_of(const Tensor& images, const Tensor& points, const Tensor& crossings, const Tensor& index) {
  check(images.dim() == 4 && images.size(3) <= renderer::kMostChannels, "images",
        "the shape (N, H, W, C), with C at most ", renderer::kMostChannels);
  check_size(images.size(1), images.size(2));
  const Batch batch = batch_of(index, images.size(0));
  check_crossings(crossings, batch, static_cast<int>(images.size(1)), static_cast<int>(images.size(2)));
  const int32_t blocks = blocks_of(batch, points);
  check(images.scalar_type() == points.scalar_type() && images.is_cpu(), "images", "the dtype and device of the points");
  return {batch, blocks, static_cast<int32_t>(images.size(3)), static_cast<int>(images.size(1)), static_cast<int>(images.size(2))};
}

Tensor copy_of(const Tensor& images) {
  const Tensor contiguous = images.is_contiguous() ? images : torch::stable::contiguous(images);
  Tensor result = empty_on_cpu({images.size(0), images.size(1), images.size(2), images.size(3)}, images.scalar_type());
  const size_t size = images.scalar_type() == ScalarType::Double ? 8 : 4;
  const auto* from = static_cast<const char*>(contiguous.const_data_ptr());
  std::copy(from, from + size * static_cast<size_t>(images.numel()), static_cast<char*>(result.mutable_data_ptr()));
  return result;
}

Tensor blend(const Tensor& images, const Tensor& points, const Tensor& crossings, const Tensor& index) {
  const Blending b = blending_of(images, points, crossings, index);
  Tensor result = copy_of(images);
  with_type(points, "points", [&](auto number) {
    using T = decltype(number);
    renderer::blend(b.batch, Frame<T>(b.height, b.width),
                    drawing_of<T>(points, b.blocks, nullptr, crossings, false, Mode::kAttributes, b.channels, {}), data_of<T>(result));
  });
  return result;
}

std::tuple<Tensor, Tensor> blend_backward(const Tensor& gradient, const Tensor& images, const Tensor& points, const Tensor& crossings,
                                          const Tensor& index) {
  const Blending b = blending_of(images, points, crossings, index);
  const Tensor contiguous = images.is_contiguous() ? images : torch::stable::contiguous(images);
  Tensor to_images = copy_of(gradient), to_points = empty_like_points(points);
  check_images(to_images, "gradient", points, images.size(0), b.height, b.width, b.channels);
  with_type(points, "points", [&](auto number) {
    using T = decltype(number);
    renderer::blend_backward(b.batch, Frame<T>(b.height, b.width),
                             drawing_of<T>(points, b.blocks, nullptr, crossings, false, Mode::kAttributes, b.channels, {}),
                             data_of<T>(contiguous), data_of<T>(to_images), data_of<T>(to_points));
  });
  return {to_images, to_points};
}

// target_of_image: which of the targets each image is compared with.
std::tuple<Tensor, Tensor> compare(const Tensor& points, const Tensor& faces, const Tensor& crossings, const Tensor& index,
                                   const Tensor& targets, const std::vector<int64_t> target_of_image,
                                   const std::optional<Tensor>& pixel_weights, const std::vector<double> channel_weights, int64_t kind,
                                   double beta, int64_t width, bool perspective, int64_t mode, const std::vector<double> background,
                                   bool with_gradient) {
  const Request r = request_of(points, faces, crossings, index, width, mode);
  check(r.mode == Mode::kSilhouette || r.mode == Mode::kShaded || r.mode == Mode::kProduct, "mode", "0, 1 or 2");
  const bool of_bytes = targets.scalar_type() == ScalarType::Byte;
  check(targets.is_cpu() && targets.is_contiguous() && targets.dim() == 4 && targets.size(1) == r.height && targets.size(2) == width &&
            targets.size(3) == r.channels && (of_bytes || targets.scalar_type() == points.scalar_type()),
        "images", "contiguous ones of the shape (..., ", r.height, ", ", width, ", ", r.channels, "), uint8 or of the vertices' dtype");
  check(static_cast<int64_t>(target_of_image.size()) == faces.size(0), "target_of_image", faces.size(0), " numbers");
  for (const int64_t k : target_of_image) check(k >= 0 && k < targets.size(0), "target_of_image", "numbers below ", targets.size(0));
  check(static_cast<int32_t>(channel_weights.size()) == r.channels, "channel_weights", r.channels, " numbers");
  check(kind >= 0 && kind <= 2, "kind", "a number from 0 to 2");
  check(kind != 2 || beta > 0, "beta", "a number above 0, got ", beta);
  if (pixel_weights) {
    check_floats(*pixel_weights, "pixel_weights", points);
    check(pixel_weights->dim() == 3 && pixel_weights->size(0) == targets.size(0) && pixel_weights->size(1) == r.height &&
              pixel_weights->size(2) == width,
          "pixel_weights", "the shape (", targets.size(0), ", ", r.height, ", ", width, ")");
  }
  Tensor losses = empty_on_cpu({faces.size(0)}, points.scalar_type());
  Tensor gradient = with_gradient ? empty_like_points(points) : empty_on_cpu({points.size(0), 0, 4}, points.scalar_type());
  with_type(points, "points", [&](auto number) {
    using T = decltype(number);
    std::vector<Target<T>> all;
    const int64_t pixels = int64_t{r.height} * width;
    for (const int64_t k : target_of_image) {
      const int64_t offset = k * pixels * r.channels * static_cast<int64_t>(of_bytes ? 1 : sizeof(T));
      Target<T> target = {static_cast<const char*>(targets.const_data_ptr()) + offset, of_bytes,
                          pixel_weights ? data_of<T>(*pixel_weights) + k * pixels : nullptr, {}, static_cast<Difference>(kind),
                          static_cast<T>(beta)};
      for (size_t c = 0; c < channel_weights.size(); ++c) target.channel_weights[c] = static_cast<T>(channel_weights[c]);
      all.push_back(target);
    }
    renderer::compare(r.batch, Frame<T>(r.height, r.width),
                      drawing_of<T>(points, r.blocks, &faces, crossings, perspective, r.mode, r.channels, background), all,
                      data_of<T>(losses), with_gradient ? data_of<T>(gradient) : nullptr);
  });
  return {losses, gradient};
}

// The gradient that compare made, times a number for each image.
Tensor compare_backward(const Tensor& to_losses, const Tensor& gradient, const Tensor& index) {
  const Batch batch = batch_of(index, to_losses.numel());
  const int32_t blocks = blocks_of(batch, gradient);
  const Tensor scales = to_losses.is_contiguous() ? to_losses : torch::stable::contiguous(to_losses);
  check_floats(scales, "gradient", gradient);
  Tensor result = empty_like_points(gradient);
  with_type(gradient, "gradient", [&](auto number) {
    using T = decltype(number);
    renderer::scale_gradient(batch, blocks, data_of<T>(scales), data_of<T>(gradient), data_of<T>(result));
  });
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(pt3d_largesteps, library) {
  library.def(
      "rasterize(Tensor points, Tensor index, int num_images, int height, int width, bool perspective, float z_clip, bool culls, "
      "bool outlined) -> (Tensor, Tensor, Tensor)");
  library.def(
      "draw(Tensor points, Tensor faces, Tensor crossings, Tensor index, int width, bool perspective, int mode, float[] background) "
      "-> Tensor");
  library.def(
      "draw_backward(Tensor gradient, Tensor points, Tensor faces, Tensor crossings, Tensor index, int width, bool perspective, "
      "int mode, float[] background) -> Tensor");
  library.def("blend(Tensor images, Tensor points, Tensor crossings, Tensor index) -> Tensor");
  library.def(
      "blend_backward(Tensor gradient, Tensor images, Tensor points, Tensor crossings, Tensor index) -> (Tensor, Tensor)");
  library.def(
      "compare(Tensor points, Tensor faces, Tensor crossings, Tensor index, Tensor targets, int[] target_of_image, "
      "Tensor? pixel_weights, float[] channel_weights, int kind, float beta, int width, bool perspective, int mode, "
      "float[] background, bool with_gradient) -> (Tensor, Tensor)");
  library.def("compare_backward(Tensor to_losses, Tensor gradient, Tensor index) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(pt3d_largesteps, CPU, library) {
  library.impl("rasterize", TORCH_BOX(&rasterize));
  library.impl("draw", TORCH_BOX(&draw));
  library.impl("draw_backward", TORCH_BOX(&draw_backward));
  library.impl("blend", TORCH_BOX(&blend));
  library.impl("blend_backward", TORCH_BOX(&blend_backward));
  library.impl("compare", TORCH_BOX(&compare));
  library.impl("compare_backward", TORCH_BOX(&compare_backward));
}

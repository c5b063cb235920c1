#include "thread_buffer.h"

#include <new>

namespace largesteps {
namespace {

constexpr std::align_val_t kAlignment{64};

void* allocate(std::size_t num_bytes) { return ::operator new(num_bytes, kAlignment); }
void release(void* data) { ::operator delete(data, kAlignment); }

class Kept {
 public:
  Kept() = default;
  ~Kept() { release(data_); }
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;

  void* grown_to(std::size_t num_bytes) {
    if (num_bytes > num_bytes_ || data_ == nullptr) {
      release(data_);
      data_ = nullptr;  // there may be no memory
      data_ = allocate(num_bytes);
      num_bytes_ = num_bytes;
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  std::size_t num_bytes_ = 0;
};

thread_local Kept kept[2];

}  // namespace

ThreadBuffer::ThreadBuffer(Purpose purpose, int64_t num_bytes) {
  const auto size = static_cast<std::size_t>(num_bytes);
  is_kept_ = size <= kKeptBytes;
  data_ = is_kept_ ? kept[static_cast<int>(purpose)].grown_to(size) : allocate(size);
}

ThreadBuffer::~ThreadBuffer() {
  if (!is_kept_) release(data_);
}

}  // namespace largesteps

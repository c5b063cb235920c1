// Scratch memory of a thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace largesteps {

// A thread has one buffer for each.
enum class Purpose { kWorkspace, kScratch };

// A thread keeps a buffer of up to this size from one solve to the next, so that small solves allocate nothing: to map and
// unmap megabytes would cost more than they do. A larger one is freed as soon as it is not needed: next to a solve that needs
// it the mapping is cheap, and the thread, which may be a helper that nobody ends, may never need as much again.
constexpr std::size_t kKeptBytes = std::size_t{16} << 20;

// Holds the calling thread's buffer for a purpose, which nothing else on this thread may do meanwhile.
class ThreadBuffer {
 public:
  ThreadBuffer(Purpose purpose, int64_t num_bytes);
  ~ThreadBuffer();
  ThreadBuffer(const ThreadBuffer&) = delete;
  ThreadBuffer& operator=(const ThreadBuffer&) = delete;

  // Begins at a multiple of 64 bytes, and holds anything.
  void* data() const { return data_; }

 private:
  void* data_;
  bool is_kept_;
};

}  // namespace largesteps

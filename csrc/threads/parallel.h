// Shares items of work between the calling thread and helper threads that are free.
#pragma once

#include <cstdint>
#include <functional>

namespace largesteps {

// Runs body(0), ..., body(num_items - 1), each once, and returns when all are done. The caller works too, and waits only
// for items that a helper has begun. If the other cores are busy, the caller does everything alone. Any thread may run any
// item, so a body must not write anything that another item reads or writes. If a body throws an exception, this function
// throws it again after all begun items are done. Calls from inside a body run on the calling thread.
void parallel_for(int64_t num_items, int num_threads, const std::function<void(int64_t)>& body);

}  // namespace largesteps

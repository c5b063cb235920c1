// Items of work shared between the calling thread and helpers that happen to be free.
#pragma once

#include <cstdint>
#include <functional>

namespace largesteps {

// Runs body(0), ..., body(num_items - 1), each once, and returns when all are done. The caller works itself and waits
// only for items that a helper has begun: where the other cores are busy it does everything alone. Which thread runs an
// item is left open, so a body must write nothing that another item reads or writes. An exception thrown by a body is
// thrown again here, after all items that had begun. Calls from inside a body run on the thread that calls.
void parallel_for(int64_t num_items, int num_threads, const std::function<void(int64_t)>& body);

}  // namespace largesteps

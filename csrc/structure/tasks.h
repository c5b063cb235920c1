// Sets of whole subtrees small enough for a core's own cache, and the supernodes above them.
#pragma once

#include <cstdint>
#include <vector>

#include "symbolic.h"

namespace largesteps {

struct TaskCut {
  std::vector<std::vector<int32_t>> tasks;  // the roots of each task's subtrees, in increasing order
  std::vector<int32_t> upper;               // children before parents
};

// The cut depends on the factor alone. Large systems are cut into tasks of the largest size, small ones into two that weigh
// about the same.
TaskCut cut_into_tasks(const Symbolic& symbolic);

}  // namespace largesteps

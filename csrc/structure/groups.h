// Groups of supernodes of a task that are processed together.
#pragma once

#include <cstdint>
#include <vector>

#include "symbolic.h"

namespace largesteps {

// Sorts the members, the supernodes of whole subtrees, so that children precede parents and the members of a group, all of one
// height, are contiguous. Returns the groups' sizes, at most kLanes each.
std::vector<int32_t> group_by_shape(const Symbolic& symbolic, std::vector<int32_t>& members);

}  // namespace largesteps

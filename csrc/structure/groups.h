// Which supernodes of a task are visited side by side.
#pragma once

#include <cstdint>
#include <vector>

#include "symbolic.h"

namespace largesteps {

// Sorts the members, the supernodes of whole subtrees, so that children stand before parents and those of a group, all of
// one height, side by side. Returns the groups' sizes, at most kLanes each.
std::vector<int32_t> group_by_shape(const Symbolic& symbolic, std::vector<int32_t>& members);

}  // namespace largesteps

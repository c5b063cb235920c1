// Which nodes of a dissection become one supernode where a level costs more than the numbers in it: on a GPU.
//
// A sweep takes the levels of the tree one after the other, and each of them costs a launch and several trips to memory,
// however little there is to do. Whole levels are therefore merged: a supernode takes in all that is below it down to the next
// cut. The cuts are those with which the time of a solve, levels x latency + bytes / bandwidth, is the least.
#pragma once

#include <cstdint>
#include <vector>

namespace largesteps {

// Of nodes in postorder: the node above each or -1, its columns, and the rows below these. Returns for each node the one that
// it becomes a part of (itself, if it stays).
std::vector<int32_t> merge_levels(const std::vector<int32_t>& parent, const std::vector<int32_t>& columns,
                                  const std::vector<int32_t>& rows);

}  // namespace largesteps

// Merges nodes of a dissection into supernodes for a GPU, where a level costs more than the numbers in it.
//
// A sweep visits the levels of the tree one after the other. Each level costs a launch and several memory latencies, however
// little work it has. So whole levels are merged: a supernode absorbs all nodes below it down to the next cut. The cuts
// minimise the time of a solve, levels x latency + bytes / bandwidth.
#pragma once

#include <cstdint>
#include <vector>

namespace largesteps {

// Takes for nodes in postorder the parent or -1, the number of columns, and the number of rows below. Returns for each node the
// node into which it is merged (itself, if it stays).
std::vector<int32_t> merge_levels(const std::vector<int32_t>& parent, const std::vector<int32_t>& columns,
                                  const std::vector<int32_t>& rows);

}  // namespace largesteps

#include "index_buffer.h"

#include <utility>

namespace largesteps {

bool looks_valid(const int32_t* data, int64_t size) {
  if (size < kHeaderSize || data[kMagicNumber] != kMagic || data[kTotalSize] != size) return false;
  int32_t previous = kHeaderSize;
  for (int32_t section = 0; section < kNumSections; ++section) {
    const int32_t start = data[kSectionOffsets + section];
    if (start < previous || start > size) return false;
    previous = start;
  }
  const auto length = [&](Section section) {
    const int64_t end = section + 1 < kNumSections ? data[kSectionOffsets + section + 1] : size;
    return end - data[kSectionOffsets + section];
  };
  const int64_t verts = data[kNumVerts], entries = data[kNumEntries], supernodes = data[kNumSupernodes];
  const int64_t nodes = data[kNumNodes], groups = data[kNumGroups];
  const std::pair<Section, int64_t> lengths[] = {
      {kEntryRows, entries},     {kEntryColumns, entries}, {kCrow, verts + 1},           {kOldFromNew, verts},
      {kNewFromOld, verts},      {kFirst, supernodes + 1}, {kParent, supernodes},        {kSubtree, supernodes},
      {kRowStart, supernodes + 1}, {kRowsInParent, length(kRows)}, {kNodeGroups, nodes + 1}, {kNodeRootStart, nodes + 1},
      {kRootParents, length(kNodeRoots)}, {kNodeChildStart, nodes + 1}, {kChildNodes, length(kNodeChildren)},
      {kSlots, supernodes},      {kGroupColumns, groups},  {kGroupRows, groups},         {kGroupG, groups},
      {kGroupP, groups},         {kGroupIndices, groups},  {kGroupMemberStart, groups + 1}};
  for (const auto& [section, expected] : lengths) {
    if (length(section) != expected) return false;
  }
  return data[kFactorBlocks] >= 0 && data[kNumTasks] >= 0 && data[kNumTasks] <= nodes && data[kWorkspaceRows] >= verts;
}

}  // namespace largesteps

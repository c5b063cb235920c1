// The one integer buffer that describes the structure of a system, its factor and the schedule of its solves.
//
// A header of kHeaderSize numbers, then the sections one after the other; all are int32. The rows and columns of the
// matrix's entries come first, so that they begin at kHeaderSize whatever follows.
#pragma once

#include <cstdint>
#include <vector>

namespace largesteps {

constexpr int32_t kMagic = 0x4c535431;  // changes with the format
constexpr int32_t kHeaderSize = 64;
constexpr int32_t kLanes = 8;  // supernodes side by side in a batch, rows side by side in a tile

enum Header : int32_t {
  kMagicNumber,
  kTotalSize,       // of the buffer
  kNumVerts,
  kNumEntries,      // of the matrix, both triangles and the diagonal
  kNumSupernodes,
  kNumLevels,       // of the tree of supernodes
  kNumNodes,        // of the schedule: tasks, then the supernodes above them
  kNumTasks,
  kNumGroups,
  kWorkspaceRows,
  kMaxFront,        // columns and rows of the largest supernode
  kFactorBlocks,    // numbers in the stored factor, in units of kLanes
  kFactorEntriesLow, kFactorEntriesHigh,  // entries of the triangular factor: low 31 bits, the rest
  kReservedUntil = 20,
  kSectionOffsets = 20,  // where each section starts, in the order of Section
};

enum Section : int32_t {
  // The matrix, in the order given.
  kEntryRows, kEntryColumns,  // per entry
  kCrow,                      // num_verts + 1
  // The structure: see Symbolic.
  kOldFromNew, kNewFromOld,   // num_verts
  kFirst,                     // num_supernodes + 1
  kParent, kSubtree,          // num_supernodes
  kRowStart,                  // num_supernodes + 1
  kRows, kRowsInParent,
  // The schedule: see Schedule.
  kNodeGroups,                // num_nodes + 1
  kNodeRootStart, kNodeRoots, kRootParents,
  kNodeChildStart, kNodeChildren, kChildNodes,
  kSlots,                     // num_supernodes
  kGroupColumns, kGroupRows, kGroupG, kGroupP, kGroupIndices,  // num_groups
  kGroupMemberStart, kGroupMembers,
  kIndices,
  kNumSections,
};
static_assert(kSectionOffsets + kNumSections < kHeaderSize, "the header holds an offset per section");

// Pointers into a buffer.
struct IndexView {
  const int32_t* data;

  int32_t operator[](Header field) const { return data[field]; }
  const int32_t* operator[](Section section) const { return data + data[kSectionOffsets + section]; }

  int64_t factor_size() const { return int64_t{kLanes} * data[kFactorBlocks]; }
  int64_t factor_entries() const { return (int64_t{data[kFactorEntriesHigh]} << 31) + data[kFactorEntriesLow]; }
  int32_t num_columns(int32_t s) const { return (*this)[kFirst][s + 1] - (*this)[kFirst][s]; }
  int32_t num_rows(int32_t s) const { return (*this)[kRowStart][s + 1] - (*this)[kRowStart][s]; }
};

// Whether the buffer can be what analyze made: the header and the bounds of the sections, not their contents.
bool looks_valid(const int32_t* data, int64_t size);

}  // namespace largesteps

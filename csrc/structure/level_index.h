// The index buffer of a system that is solved level by level, on a GPU, and the plans of its kernels.
//
// It begins like the CPU's buffer (index_buffer.h), with the same header and the same sections up to kRowsInParent, followed by
// the sections below. The host must know the launch sizes of kernels without waiting for the device. So they are in two further
// sections, the plans, of which the host keeps copies. A plan also tells where in the buffer the sections of its kernels begin.
#pragma once

#include <cstdint>

#include "index_buffer.h"
#include "level_schedule.h"

namespace largesteps {

constexpr int32_t kLevelMagic = 0x4c534c31;  // changes with the format

enum LevelSection : int32_t {
  kForwardTiles = kRowsInParent + 1, kBackwardTiles,  // SweepTile: 3 numbers each
  kForwardStart, kBackwardStart,                      // num_supernodes
  kGatherStart,                                       // num_verts and all rows, + 1
  kGather,                                            // all rows
  kFrontTiles,                                        // FrontTile: 3 numbers each
  kFrontStart, kPanelStart, kComplementStart, kOrder,  // num_supernodes
  kSolvePlan, kFactorPlan,
  kNumLevelSections,
};
static_assert(kSectionOffsets + kNumLevelSections < kHeaderSize, "the header holds an offset per section");

// A solve's plan: these numbers, then for each level its tiles of the forward and of the backward sweep.
enum SolvePlan : int32_t {
  kSolveMagic, kSolveTotalSize, kSolveNumVerts, kSolveNumSlots, kSolveNumEntries, kSolveFactorBlocks, kSolveNumLevels,
  kSolveOldFromNew, kSolveFirst, kSolveRowStart, kSolveRows, kSolveForwardTiles, kSolveBackwardTiles, kSolveForwardStart,
  kSolveBackwardStart, kSolveGatherStart, kSolveGather,
  kSolvePlanSize,
};

// A factorisation's plan: these numbers, then for each chunk those of FrontChunk.
enum FactorPlan : int32_t {
  kFactorMagic, kFactorTotalSize, kFactorNumVerts, kFactorNumEntries, kFactorFactorBlocks, kFactorNumSupernodes,
  kFactorComplementUnits, kFactorNumChunks, kFactorEntryColumns, kFactorCrow, kFactorOldFromNew, kFactorNewFromOld,
  kFactorFirst, kFactorSubtree, kFactorRowStart, kFactorRows, kFactorRowsInParent, kFactorForwardStart,
  kFactorBackwardStart, kFactorFrontTiles, kFactorFrontStart, kFactorPanelStart, kFactorComplementStart, kFactorOrder,
  kFactorPlanSize,
};

}  // namespace largesteps

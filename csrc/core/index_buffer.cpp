#include "index_buffer.h"

namespace largesteps {

bool looks_valid(const int32_t* data, int64_t size) {
  if (size < kHeaderSize || data[kMagicNumber] != kMagic || data[kTotalSize] != size) return false;
  int32_t previous = kHeaderSize;
  for (int32_t section = 0; section < kNumSections; ++section) {
    const int32_t start = data[kSectionOffsets + section];
    if (start < previous || start > size) return false;
    previous = start;
  }
  return data[kNumVerts] >= 0 && data[kNumEntries] >= 0 && data[kFactorBlocks] >= 0 &&
         data[kSectionOffsets + kEntryColumns] - data[kSectionOffsets + kEntryRows] == data[kNumEntries];
}

}  // namespace largesteps

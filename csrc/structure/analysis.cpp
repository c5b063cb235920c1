#include "analysis.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>

#include "level_index.h"

namespace largesteps {
namespace {

constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

// The neighbours of each vertex; checks everything in the pattern on which the rest of the code relies.
Graph make_graph(int64_t num_verts, const int64_t* crow, const int64_t* columns) {
  if (num_verts > kLargest || crow[num_verts] > kLargest) {
    throw std::length_error("expected fewer than 2^31 vertices and entries, got " + std::to_string(num_verts) + " and " +
                            std::to_string(crow[num_verts]));
  }
  if (crow[0] != 0) refuse("expected crow_indices to begin with 0, got " + std::to_string(crow[0]));
  Graph graph;
  graph.num_verts = static_cast<int32_t>(num_verts);
  graph.offsets.resize(static_cast<size_t>(num_verts) + 1);
  graph.neighbours.resize(static_cast<size_t>(crow[num_verts]));
  int32_t num_neighbours = 0;
  for (int64_t row = 0; row < num_verts; ++row) {
    if (crow[row + 1] < crow[row] || crow[row + 1] > crow[num_verts]) {
      refuse("expected crow_indices to increase, at row " + std::to_string(row));
    }
    bool has_diagonal = false;
    int64_t previous = -1;
    for (int64_t k = crow[row]; k < crow[row + 1]; ++k) {
      const int64_t column = columns[k];
      if (column <= previous || column >= num_verts) {
        refuse("expected increasing columns in [0, " + std::to_string(num_verts) + ") in row " + std::to_string(row) +
               ", got " + std::to_string(column));
      }
      previous = column;
      // The next entry overwrites a diagonal one; the array has room for one extra entry per row.
      graph.neighbours[static_cast<size_t>(num_neighbours)] = static_cast<int32_t>(column);
      has_diagonal |= column == row;
      num_neighbours += column != row;
    }
    if (!has_diagonal) refuse("expected every diagonal entry, none in row " + std::to_string(row));
    graph.offsets[static_cast<size_t>(row) + 1] = num_neighbours;
  }
  graph.neighbours.resize(static_cast<size_t>(num_neighbours));
  // The pattern is symmetric if the entries above the diagonal, by columns, match those below it one by one.
  std::vector<int32_t> next(graph.offsets.begin(), graph.offsets.end() - 1);
  for (int32_t row = 0; row < graph.num_verts; ++row) {
    for (int32_t k = graph.offsets[row]; k < graph.offsets[row + 1]; ++k) {
      const int32_t column = graph.neighbours[k];
      if (next[column] == graph.offsets[column + 1] || graph.neighbours[next[column]] != row) {
        refuse("expected a symmetric pattern, got entry (" + std::to_string(row) + ", " + std::to_string(column) +
               ") without its mirror image");
      }
      ++next[column];
    }
  }
  return graph;
}

// What a plan needs of the buffer, in the order of its numbers.
constexpr int32_t kSolveSections[] = {kOldFromNew,   kFirst,        kRowStart,      kRows,        kForwardTiles,
                                      kBackwardTiles, kForwardStart, kBackwardStart, kGatherStart, kGather};
constexpr int32_t kFactorSections[] = {kEntryColumns, kCrow,         kOldFromNew,    kNewFromOld,  kFirst,      kSubtree,
                                       kRowStart,     kRows,         kRowsInParent,  kForwardStart, kBackwardStart, kFrontTiles,
                                       kFrontStart,   kPanelStart,   kComplementStart, kOrder};
static_assert(kSolveOldFromNew + std::size(kSolveSections) == kSolvePlanSize, "one number for each");
static_assert(kFactorEntryColumns + std::size(kFactorSections) == kFactorPlanSize, "one number for each");

template <typename Triple>
std::vector<int32_t> flat(const std::vector<Triple>& triples) {
  static_assert(sizeof(Triple) == 3 * sizeof(int32_t), "numbers and nothing else");
  std::vector<int32_t> result(3 * triples.size());
  if (!triples.empty()) std::memcpy(result.data(), triples.data(), triples.size() * sizeof(Triple));
  return result;
}

}  // namespace

// Calls visit(section, its numbers) for all sections behind those of the matrix, but for the plans, which come last.
template <typename Visit>
void Analysis::for_each_section(const Visit& visit) const {
  visit(kOldFromNew, symbolic_.old_from_new);
  visit(kNewFromOld, symbolic_.new_from_old);
  visit(kFirst, symbolic_.first);
  visit(kParent, symbolic_.parent);
  visit(kSubtree, symbolic_.subtree);
  visit(kRowStart, symbolic_.row_start);
  visit(kRows, symbolic_.rows);
  visit(kRowsInParent, symbolic_.rows_in_parent);
  if (is_by_levels_) {
    visit(kForwardTiles, flat(levels_.forward_tiles));
    visit(kBackwardTiles, flat(levels_.backward_tiles));
    visit(kForwardStart, levels_.forward_start);
    visit(kBackwardStart, levels_.backward_start);
    visit(kGatherStart, levels_.gather_start);
    visit(kGather, levels_.gather);
    visit(kFrontTiles, flat(levels_.front_tiles));
    visit(kFrontStart, levels_.front_start);
    visit(kPanelStart, levels_.panel_start);
    visit(kComplementStart, levels_.complement_start);
    visit(kOrder, levels_.order);
    return;
  }
  visit(kNodeGroups, schedule_.node_groups);
  visit(kNodeRootStart, schedule_.node_root_start);
  visit(kNodeRoots, schedule_.node_roots);
  visit(kRootParents, schedule_.root_parents);
  visit(kNodeChildStart, schedule_.node_child_start);
  visit(kNodeChildren, schedule_.node_children);
  visit(kChildNodes, schedule_.child_nodes);
  visit(kSlots, schedule_.slots);
  visit(kGroupColumns, schedule_.group_columns);
  visit(kGroupRows, schedule_.group_rows);
  visit(kGroupG, schedule_.group_g);
  visit(kGroupP, schedule_.group_p);
  visit(kGroupIndices, schedule_.group_indices);
  visit(kGroupMemberStart, schedule_.group_member_start);
  visit(kGroupMembers, schedule_.group_members);
  visit(kIndices, schedule_.indices);
}

Analysis::Analysis(int64_t num_verts, const int64_t* crow, const int64_t* columns, const double* positions,
                   const SymbolicOptions& options)
    : num_verts_(num_verts), crow_(crow), columns_(columns), is_by_levels_(options.merges_levels) {
  symbolic_ = analyze(make_graph(num_verts, crow, columns), positions, options);
  int64_t size = kHeaderSize + 2 * crow[num_verts] + num_verts + 1;
  if (is_by_levels_) {
    levels_ = make_level_schedule(symbolic_);
    size += kSolvePlanSize + 2 * static_cast<int64_t>(levels_.levels.size());
    size += kFactorPlanSize + 4 * static_cast<int64_t>(levels_.chunks.size());
  } else {
    schedule_ = make_schedule(symbolic_);
  }
  for_each_section([&](int32_t, const std::vector<int32_t>& numbers) { size += static_cast<int64_t>(numbers.size()); });
  if (size > kLargest) throw std::length_error("the index buffer needs more than 31 bits");
  if (factor_size() / kLanes >= kLargest) throw std::length_error("the factor has more than 2^34 numbers");
  size_ = static_cast<int32_t>(size);
}

void Analysis::write(int32_t* buffer) const {
  const auto num_entries = static_cast<int32_t>(crow_[num_verts_]);
  int32_t* end = buffer + kHeaderSize;
  std::fill(buffer, end, 0);
  const auto begin = [&](int32_t section) { buffer[kSectionOffsets + section] = static_cast<int32_t>(end - buffer); };
  begin(kEntryRows);
  for (int64_t row = 0; row < num_verts_; ++row) {
    end = std::fill_n(end, crow_[row + 1] - crow_[row], static_cast<int32_t>(row));
  }
  const auto to_int32 = [](int64_t number) { return static_cast<int32_t>(number); };
  begin(kEntryColumns);
  end = std::transform(columns_, columns_ + num_entries, end, to_int32);
  begin(kCrow);
  end = std::transform(crow_, crow_ + num_verts_ + 1, end, to_int32);
  for_each_section([&](int32_t section, const std::vector<int32_t>& numbers) {
    begin(section);
    end = std::copy(numbers.begin(), numbers.end(), end);
  });
  write_header(buffer);
  if (!is_by_levels_) return;

  begin(kSolvePlan);
  const int32_t num_slots = symbolic_.row_start.back(), num_levels = static_cast<int32_t>(levels_.levels.size());
  for (const int32_t number : {kLevelMagic, size_, buffer[kNumVerts], num_slots, num_entries, buffer[kFactorBlocks], num_levels}) {
    *end++ = number;
  }
  for (const int32_t section : kSolveSections) *end++ = buffer[kSectionOffsets + section];
  for (const Level& level : levels_.levels) {
    *end++ = level.num_forward_tiles;
    *end++ = level.num_backward_tiles;
  }
  begin(kFactorPlan);
  for (const int32_t number : {kLevelMagic, size_, buffer[kNumVerts], num_entries, buffer[kFactorBlocks], buffer[kNumSupernodes],
                               levels_.complement_units, static_cast<int32_t>(levels_.chunks.size())}) {
    *end++ = number;
  }
  for (const int32_t section : kFactorSections) *end++ = buffer[kSectionOffsets + section];
  for (const FrontChunk& chunk : levels_.chunks) {
    for (const int32_t number : {chunk.num_tiles, chunk.num_panels, chunk.front_units, chunk.panel_units}) *end++ = number;
  }
}

void Analysis::write_header(int32_t* buffer) const {
  int32_t max_front = 0;
  for (int32_t s = 0; s < symbolic_.num_supernodes(); ++s) {
    max_front = std::max(max_front, symbolic_.num_columns(s) + symbolic_.num_rows(s));
  }
  buffer[kMagicNumber] = is_by_levels_ ? kLevelMagic : kMagic;
  buffer[kTotalSize] = size_;
  buffer[kNumVerts] = static_cast<int32_t>(num_verts_);
  buffer[kNumEntries] = static_cast<int32_t>(crow_[num_verts_]);
  buffer[kNumSupernodes] = symbolic_.num_supernodes();
  buffer[kNumLevels] = symbolic_.num_levels;
  buffer[kMaxFront] = max_front;
  buffer[kFactorBlocks] = static_cast<int32_t>((factor_size() + kLanes - 1) / kLanes);
  buffer[kFactorEntriesLow] = static_cast<int32_t>(symbolic_.factor_entries() & kLargest);
  buffer[kFactorEntriesHigh] = static_cast<int32_t>(symbolic_.factor_entries() >> 31);
  if (is_by_levels_) return;
  buffer[kNumNodes] = static_cast<int32_t>(schedule_.node_groups.size()) - 1;
  buffer[kNumTasks] = schedule_.num_tasks;
  buffer[kNumGroups] = static_cast<int32_t>(schedule_.group_columns.size());
  buffer[kWorkspaceRows] = schedule_.workspace_rows;
}

std::vector<int32_t> analyze_pattern(int64_t num_verts, const int64_t* crow, const int64_t* columns,
                                     const double* positions, const SymbolicOptions& options) {
  const Analysis analysis(num_verts, crow, columns, positions, options);
  std::vector<int32_t> buffer(static_cast<size_t>(analysis.size()));
  analysis.write(buffer.data());
  return buffer;
}

int64_t count_factor_entries(const IndexView& index) {
  const int32_t num_verts = index[kNumVerts];
  std::vector<int32_t> parent(static_cast<size_t>(num_verts), -1), last_row(static_cast<size_t>(num_verts), -1);
  int64_t count = num_verts;
  for (int32_t row = 0; row < num_verts; ++row) {
    const int32_t vertex = index[kOldFromNew][row];
    last_row[static_cast<size_t>(row)] = row;
    for (int32_t k = index[kCrow][vertex]; k < index[kCrow][vertex + 1]; ++k) {
      // Up the elimination tree, until a column that this row has visited.
      auto column = static_cast<size_t>(index[kNewFromOld][index[kEntryColumns][k]]);
      if (static_cast<int32_t>(column) >= row) continue;
      for (; last_row[column] != row; column = static_cast<size_t>(parent[column])) {
        if (parent[column] < 0) parent[column] = row;
        last_row[column] = row;
        ++count;
      }
    }
  }
  return count;
}

}  // namespace largesteps

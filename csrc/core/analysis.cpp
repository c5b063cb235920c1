#include "analysis.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>


namespace largesteps {
namespace {

constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

// The neighbours of each vertex; checks everything that a wrong pattern could make the rest of the code stumble over.
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
      // The diagonal is overwritten by what follows; behind the last row there is room for as many as were left out.
      graph.neighbours[static_cast<size_t>(num_neighbours)] = static_cast<int32_t>(column);
      has_diagonal |= column == row;
      num_neighbours += column != row;
    }
    if (!has_diagonal) refuse("expected every diagonal entry, none in row " + std::to_string(row));
    graph.offsets[static_cast<size_t>(row) + 1] = num_neighbours;
  }
  graph.neighbours.resize(static_cast<size_t>(num_neighbours));
  // Symmetric, if the entries above the diagonal, taken by columns, meet those below it one by one.
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

// Calls visit(section, its numbers) for all sections that are kept as they are.
template <typename Visit>
void for_each_section(const Symbolic& symbolic, const Schedule& schedule, const Visit& visit) {
  visit(kOldFromNew, symbolic.old_from_new);
  visit(kNewFromOld, symbolic.new_from_old);
  visit(kFirst, symbolic.first);
  visit(kParent, symbolic.parent);
  visit(kSubtree, symbolic.subtree);
  visit(kRowStart, symbolic.row_start);
  visit(kRows, symbolic.rows);
  visit(kRowsInParent, symbolic.rows_in_parent);
  visit(kNodeGroups, schedule.node_groups);
  visit(kNodeRootStart, schedule.node_root_start);
  visit(kNodeRoots, schedule.node_roots);
  visit(kRootParents, schedule.root_parents);
  visit(kNodeChildStart, schedule.node_child_start);
  visit(kNodeChildren, schedule.node_children);
  visit(kChildNodes, schedule.child_nodes);
  visit(kSlots, schedule.slots);
  visit(kGroupColumns, schedule.group_columns);
  visit(kGroupRows, schedule.group_rows);
  visit(kGroupG, schedule.group_g);
  visit(kGroupP, schedule.group_p);
  visit(kGroupIndices, schedule.group_indices);
  visit(kGroupMemberStart, schedule.group_member_start);
  visit(kGroupMembers, schedule.group_members);
  visit(kIndices, schedule.indices);
}

}  // namespace

Analysis::Analysis(int64_t num_verts, const int64_t* crow, const int64_t* columns, const double* positions,
                   const SymbolicOptions& options)
    : num_verts_(num_verts), crow_(crow), columns_(columns) {
  symbolic_ = analyze(make_graph(num_verts, crow, columns), positions, options);
  schedule_ = make_schedule(symbolic_);
  int64_t size = kHeaderSize + 2 * crow[num_verts] + num_verts + 1;
  for_each_section(symbolic_, schedule_,
                   [&](Section, const std::vector<int32_t>& numbers) { size += static_cast<int64_t>(numbers.size()); });
  if (size > kLargest) throw std::length_error("the index buffer needs more than 31 bits");
  if (schedule_.factor_size / kLanes > kLargest) throw std::length_error("the factor has more than 2^34 numbers");
  size_ = static_cast<int32_t>(size);
}

void Analysis::write(int32_t* buffer) const {
  const auto num_entries = static_cast<int32_t>(crow_[num_verts_]);
  int32_t* end = buffer + kHeaderSize;
  std::fill(buffer, end, 0);
  const auto begin = [&](Section section) { buffer[kSectionOffsets + section] = static_cast<int32_t>(end - buffer); };
  begin(kEntryRows);
  for (int64_t row = 0; row < num_verts_; ++row) {
    end = std::fill_n(end, crow_[row + 1] - crow_[row], static_cast<int32_t>(row));
  }
  const auto to_int32 = [](int64_t number) { return static_cast<int32_t>(number); };
  begin(kEntryColumns);
  end = std::transform(columns_, columns_ + num_entries, end, to_int32);
  begin(kCrow);
  end = std::transform(crow_, crow_ + num_verts_ + 1, end, to_int32);
  for_each_section(symbolic_, schedule_, [&](Section section, const std::vector<int32_t>& numbers) {
    begin(section);
    end = std::copy(numbers.begin(), numbers.end(), end);
  });

  int32_t max_front = 0;
  for (int32_t s = 0; s < symbolic_.num_supernodes(); ++s) {
    max_front = std::max(max_front, symbolic_.num_columns(s) + symbolic_.num_rows(s));
  }
  buffer[kMagicNumber] = kMagic;
  buffer[kTotalSize] = size_;
  buffer[kNumVerts] = static_cast<int32_t>(num_verts_);
  buffer[kNumEntries] = num_entries;
  buffer[kNumSupernodes] = symbolic_.num_supernodes();
  buffer[kNumLevels] = symbolic_.num_levels;
  buffer[kNumNodes] = static_cast<int32_t>(schedule_.node_groups.size()) - 1;
  buffer[kNumTasks] = schedule_.num_tasks;
  buffer[kNumGroups] = static_cast<int32_t>(schedule_.group_columns.size());
  buffer[kWorkspaceRows] = schedule_.workspace_rows;
  buffer[kMaxFront] = max_front;
  buffer[kFactorBlocks] = static_cast<int32_t>(schedule_.factor_size / kLanes);
  buffer[kFactorEntriesLow] = static_cast<int32_t>(symbolic_.factor_entries() & kLargest);
  buffer[kFactorEntriesHigh] = static_cast<int32_t>(symbolic_.factor_entries() >> 31);
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
      // Up the elimination tree, as far as this row has not been yet.
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

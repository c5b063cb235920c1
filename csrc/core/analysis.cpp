#include "analysis.h"

#include <limits>
#include <stdexcept>
#include <string>

#include "index_buffer.h"
#include "schedule.h"

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
  graph.offsets.reserve(static_cast<size_t>(num_verts) + 1);
  graph.neighbours.reserve(static_cast<size_t>(crow[num_verts]));
  graph.offsets.push_back(0);
  for (int64_t row = 0; row < num_verts; ++row) {
    if (crow[row + 1] < crow[row] || crow[row + 1] > crow[num_verts]) {
      refuse("expected crow_indices to increase, at row " + std::to_string(row));
    }
    bool has_diagonal = false;
    for (int64_t k = crow[row]; k < crow[row + 1]; ++k) {
      const int64_t column = columns[k];
      if (column < 0 || column >= num_verts || (k > crow[row] && column <= columns[k - 1])) {
        refuse("expected increasing columns in [0, " + std::to_string(num_verts) + ") in row " + std::to_string(row) +
               ", got " + std::to_string(column));
      }
      has_diagonal |= column == row;
      if (column != row) graph.neighbours.push_back(static_cast<int32_t>(column));
    }
    if (!has_diagonal) refuse("expected every diagonal entry, none in row " + std::to_string(row));
    graph.offsets.push_back(static_cast<int32_t>(graph.neighbours.size()));
  }
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

class Writer {
 public:
  Writer() : buffer_(kHeaderSize, 0) {}

  void header(Header field, int64_t value) { buffer_[field] = static_cast<int32_t>(value); }

  void section(Section section, const std::vector<int32_t>& values) {
    begin(section, values.size());
    buffer_.insert(buffer_.end(), values.begin(), values.end());
  }

  void begin(Section section, size_t size) {
    if (buffer_.size() + size > static_cast<size_t>(kLargest)) {
      throw std::length_error("the index buffer needs more than 31 bits");
    }
    buffer_[kSectionOffsets + section] = static_cast<int32_t>(buffer_.size());
  }

  std::vector<int32_t>& buffer() { return buffer_; }

  std::vector<int32_t> finish() {
    header(kTotalSize, static_cast<int64_t>(buffer_.size()));
    return std::move(buffer_);
  }

 private:
  std::vector<int32_t> buffer_;
};

}  // namespace

std::vector<int32_t> analyze_pattern(int64_t num_verts, const int64_t* crow, const int64_t* columns,
                                     const double* positions, const SymbolicOptions& options) {
  const Graph graph = make_graph(num_verts, crow, columns);
  const Symbolic symbolic = analyze(graph, positions, options);
  const Schedule schedule = make_schedule(symbolic);

  Writer writer;
  const int64_t num_entries = crow[num_verts];
  writer.begin(kEntryRows, static_cast<size_t>(num_entries));
  for (int32_t row = 0; row < graph.num_verts; ++row) {
    writer.buffer().insert(writer.buffer().end(), static_cast<size_t>(crow[row + 1] - crow[row]), row);
  }
  writer.begin(kEntryColumns, static_cast<size_t>(num_entries));
  for (int64_t k = 0; k < num_entries; ++k) writer.buffer().push_back(static_cast<int32_t>(columns[k]));
  writer.begin(kCrow, static_cast<size_t>(num_verts) + 1);
  for (int64_t row = 0; row <= num_verts; ++row) writer.buffer().push_back(static_cast<int32_t>(crow[row]));
  writer.section(kOldFromNew, symbolic.old_from_new);
  writer.section(kNewFromOld, symbolic.new_from_old);
  writer.section(kFirst, symbolic.first);
  writer.section(kParent, symbolic.parent);
  writer.section(kSubtree, symbolic.subtree);
  writer.section(kRowStart, symbolic.row_start);
  writer.section(kRows, symbolic.rows);
  writer.section(kRowsInParent, symbolic.rows_in_parent);
  writer.section(kNodeGroups, schedule.node_groups);
  writer.section(kNodeRootStart, schedule.node_root_start);
  writer.section(kNodeRoots, schedule.node_roots);
  writer.section(kRootParents, schedule.root_parents);
  writer.section(kNodeChildStart, schedule.node_child_start);
  writer.section(kNodeChildren, schedule.node_children);
  writer.section(kChildNodes, schedule.child_nodes);
  writer.section(kSlots, schedule.slots);
  writer.section(kGroupColumns, schedule.group_columns);
  writer.section(kGroupRows, schedule.group_rows);
  writer.section(kGroupG, schedule.group_g);
  writer.section(kGroupP, schedule.group_p);
  writer.section(kGroupIndices, schedule.group_indices);
  writer.section(kGroupMemberStart, schedule.group_member_start);
  writer.section(kGroupMembers, schedule.group_members);
  writer.section(kIndices, schedule.indices);

  int32_t max_front = 0;
  for (int32_t s = 0; s < symbolic.num_supernodes(); ++s) {
    max_front = std::max(max_front, symbolic.num_columns(s) + symbolic.num_rows(s));
  }
  const int64_t factor_blocks = schedule.factor_size / kLanes;
  if (factor_blocks > kLargest) throw std::length_error("the factor has more than 2^34 numbers");
  writer.header(kMagicNumber, kMagic);
  writer.header(kNumVerts, num_verts);
  writer.header(kNumEntries, num_entries);
  writer.header(kNumSupernodes, symbolic.num_supernodes());
  writer.header(kNumLevels, symbolic.num_levels);
  writer.header(kNumNodes, static_cast<int64_t>(schedule.node_groups.size()) - 1);
  writer.header(kNumTasks, schedule.num_tasks);
  writer.header(kNumGroups, static_cast<int64_t>(schedule.group_columns.size()));
  writer.header(kWorkspaceRows, schedule.workspace_rows);
  writer.header(kMaxFront, max_front);
  writer.header(kFactorBlocks, factor_blocks);
  writer.header(kFactorEntriesLow, symbolic.factor_entries() & kLargest);
  writer.header(kFactorEntriesHigh, symbolic.factor_entries() >> 31);
  return writer.finish();
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

#include "schedule.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "groups.h"
#include "index_buffer.h"
#include "layout.h"
#include "tasks.h"

namespace largesteps {
namespace {

using Indices = std::vector<int32_t>;

// Minimum distance of workspace rows that two threads may write at the same time: two cache lines of one column in float32.
constexpr int32_t kRowsApart = 32;

class Builder {
 public:
  explicit Builder(const Symbolic& symbolic) : symbolic_(symbolic), num_supernodes_(symbolic.num_supernodes()) {}

  Schedule build() {
    result_.slots.assign(num_supernodes_, -1);
    result_.node_groups.push_back(0);
    result_.node_root_start.push_back(0);
    result_.node_child_start.push_back(0);
    result_.group_member_start.push_back(0);
    next_slot_ = symbolic_.num_verts;
    find_tasks();
    place_slots();
    for (int32_t task = 0; task < result_.num_tasks; ++task) add_task(task);
    for (const int32_t s : upper_) add_upper(s);
    finish_values();
    connect_nodes();
    result_.workspace_rows = next_slot_;
    check(static_cast<int64_t>(result_.indices.size()));
    return std::move(result_);
  }

 private:
  static int32_t check(int64_t size) {
    if (size > std::numeric_limits<int32_t>::max()) throw std::length_error("the schedule needs more than 31 bits");
    return static_cast<int32_t>(size);
  }

  void find_tasks() {
    TaskCut cut = cut_into_tasks(symbolic_);
    roots_ = std::move(cut.tasks);
    upper_ = std::move(cut.upper);
    result_.num_tasks = static_cast<int32_t>(roots_.size());
    task_of_root_.assign(num_supernodes_, -1);
    for (int32_t task = 0; task < result_.num_tasks; ++task) {
      for (const int32_t root : roots_[task]) task_of_root_[root] = task;
    }
  }

  // The slots of each node, followed by its padding rows, begin on a cache line that no other node writes.
  void place_slots() {
    const auto place = [&](const Indices& roots) {
      next_slot_ = check((int64_t{next_slot_} + kRowsApart - 1) / kRowsApart * kRowsApart);
      for (const int32_t s : roots) {
        result_.slots[s] = next_slot_;
        next_slot_ = check(int64_t{next_slot_} + symbolic_.num_rows(s));
      }
      next_slot_ = check(int64_t{next_slot_} + kLanes);
    };
    std::for_each(roots_.begin(), roots_.end(), place);
    for (const int32_t s : upper_) place({s});
  }

  // The rows used for padded indices of a node, given its last root: one per lane, because sums into the same row would have to
  // wait for each other.
  int32_t stand_ins(int32_t root) const { return result_.slots[root] + symbolic_.num_rows(root); }

  void add_task(int32_t task) {
    Indices members;
    for (const int32_t root : roots_[task]) {
      for (int32_t s = symbolic_.subtree[root]; s <= root; ++s) members.push_back(s);
    }
    root_of_task_ = &roots_[task];
    const int32_t* begin = members.data();
    for (const int32_t size : group_by_shape(symbolic_, members)) {
      add_group(begin, begin + size, stand_ins(roots_[task].back()));
      begin += size;
    }
    result_.node_roots.insert(result_.node_roots.end(), roots_[task].begin(), roots_[task].end());
    finish_node();
  }

  void add_group(const int32_t* begin, const int32_t* end, int32_t stand_ins) {
    int32_t columns = 0, rows = 0;
    for (const int32_t* s = begin; s < end; ++s) {
      columns = std::max(columns, symbolic_.num_columns(*s));
      rows = std::max(rows, symbolic_.num_rows(*s));
      result_.group_members.push_back(*s);
    }
    const bool single = end - begin == 1;
    result_.group_columns.push_back(columns);
    result_.group_rows.push_back(rows);
    if (single) {
      place_values(SingleLayout(columns, rows));
    } else {
      place_values(BatchLayout(columns, rows));
    }
    result_.group_indices.push_back(check(static_cast<int64_t>(result_.indices.size())));
    result_.group_member_start.push_back(static_cast<int32_t>(result_.group_members.size()));
    if (single) {
      add_columns(*begin, stand_ins);
      for (int32_t k = 0; k < rows; ++k) result_.indices.push_back(workspace_row(*begin, k));
      pad(stand_ins);
      return;
    }
    for (int32_t j = 0; j < columns; ++j) {
      for (int32_t lane = 0; lane < kLanes; ++lane) {
        const bool real = lane < end - begin && j < symbolic_.num_columns(begin[lane]);
        result_.indices.push_back(real ? symbolic_.first[begin[lane]] + j : stand_ins + lane);
      }
    }
    for (int32_t k = 0; k < rows; ++k) {
      for (int32_t lane = 0; lane < kLanes; ++lane) {
        const bool real = lane < end - begin && k < symbolic_.num_rows(begin[lane]);
        result_.indices.push_back(real ? workspace_row(begin[lane], k) : stand_ins + lane);
      }
    }
  }

  template <typename Layout>
  void place_values(const Layout& layout) {
    result_.group_g.push_back(check(layout.size_g()));  // its size, until all are known
    result_.group_p.push_back(check(size_p_));
    size_p_ += layout.size_p();
  }

  // G of the last group, with which the backward sweep begins, comes first; behind all G come all -P.
  void finish_values() {
    int64_t size_g = 0;
    for (size_t group = result_.group_g.size(); group-- > 0;) {
      const int32_t size = result_.group_g[group];
      result_.group_g[group] = check(size_g);
      size_g += size;
    }
    for (int32_t& start : result_.group_p) start = check(start + size_g);
    result_.factor_size = kLanes * (size_g + size_p_);
  }

  // The workspace row of the k-th row of s: a vertex of the same subtree, or a slot of the subtree's root.
  int32_t workspace_row(int32_t s, int32_t k) const {
    const int32_t row = symbolic_.rows[symbolic_.row_start[s] + k];
    const int32_t root = *std::lower_bound(root_of_task_->begin(), root_of_task_->end(), s);
    if (row < symbolic_.first[root + 1]) return row;
    const auto rows = symbolic_.rows.begin() + symbolic_.row_start[root];
    return result_.slots[root] +
           static_cast<int32_t>(std::lower_bound(rows, rows + symbolic_.num_rows(root), row) - rows);
  }

  // Indices of a single supernode come in blocks of kLanes.
  void add_columns(int32_t s, int32_t stand_ins) {
    for (int32_t column = symbolic_.first[s]; column < symbolic_.first[s + 1]; ++column) result_.indices.push_back(column);
    pad(stand_ins);
  }

  void pad(int32_t stand_ins) {
    const int64_t begin = result_.group_indices.back();
    for (int64_t lane; (lane = (static_cast<int64_t>(result_.indices.size()) - begin) % kLanes) != 0;) {
      result_.indices.push_back(stand_ins + static_cast<int32_t>(lane));
    }
  }

  void add_upper(int32_t s) {
    const int32_t columns = symbolic_.num_columns(s), rows = symbolic_.num_rows(s);
    result_.group_members.push_back(s);
    result_.group_columns.push_back(columns);
    result_.group_rows.push_back(rows);
    place_values(SingleLayout(columns, rows));
    result_.group_indices.push_back(check(static_cast<int64_t>(result_.indices.size())));
    result_.group_member_start.push_back(static_cast<int32_t>(result_.group_members.size()));
    add_columns(s, stand_ins(s));
    for (int32_t k = 0; k < rows; ++k) result_.indices.push_back(result_.slots[s] + k);
    pad(stand_ins(s));
    add_columns(s, stand_ins(s));
    for (int32_t k = 0; k < rows; ++k) result_.indices.push_back(symbolic_.rows[symbolic_.row_start[s] + k]);
    pad(stand_ins(s));
    result_.node_roots.push_back(s);
    finish_node();
  }

  void finish_node() {
    result_.node_groups.push_back(static_cast<int32_t>(result_.group_columns.size()));
    result_.node_root_start.push_back(static_cast<int32_t>(result_.node_roots.size()));
  }

  void connect_nodes() {
    const int32_t num_nodes = result_.num_tasks + static_cast<int32_t>(upper_.size());
    Indices node = task_of_root_;
    for (size_t i = 0; i < upper_.size(); ++i) node[upper_[i]] = result_.num_tasks + static_cast<int32_t>(i);
    for (const int32_t root : result_.node_roots) {
      const int32_t parent = symbolic_.parent[root];
      result_.root_parents.push_back(parent < 0 ? -1 : node[parent]);
    }
    std::vector<Indices> children(num_nodes);
    for (int32_t s = 0; s < num_supernodes_; ++s) {
      if (node[s] >= 0 && symbolic_.parent[s] >= 0) children[node[symbolic_.parent[s]]].push_back(s);
    }
    for (const Indices& below : children) {
      for (const int32_t s : below) {
        result_.node_children.push_back(s);
        result_.child_nodes.push_back(node[s]);
      }
      result_.node_child_start.push_back(static_cast<int32_t>(result_.node_children.size()));
    }
  }

  const Symbolic& symbolic_;
  const int32_t num_supernodes_;
  Schedule result_;
  Indices upper_, task_of_root_;
  std::vector<Indices> roots_;
  const Indices* root_of_task_ = nullptr;
  int32_t next_slot_ = 0;
  int64_t size_p_ = 0;
};

}  // namespace

Schedule make_schedule(const Symbolic& symbolic) { return Builder(symbolic).build(); }

}  // namespace largesteps

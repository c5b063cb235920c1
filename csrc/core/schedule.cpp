#include "schedule.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <tuple>

#include "index_buffer.h"
#include "layout.h"

namespace largesteps {
namespace {

using Indices = std::vector<int32_t>;

// Tasks hold at most so many entries of the factor (in float32 a megabyte). What is not large enough for two such tasks
// but worth sharing between two threads becomes two that weigh the same, up to a few percent.
constexpr double kMaxTaskEntries = 262144;
constexpr double kMinTaskEntries = 16384;
constexpr double kBalance = 1.08;
// Groups are for small supernodes: the others fill vectors by themselves.
constexpr int32_t kMaxGroupColumns = 48;
constexpr int32_t kMaxGroupRows = 112;
// Clock cycles of a solve with three columns, as measured: see cost_of_batch.
constexpr double kCostOfProduct = 1.5;
constexpr double kCostOfMove = 12;
constexpr double kCostOfColumn = 12;
constexpr double kCostOfGroup = 60;
// Rows of the workspace that two threads may write to at once are so far apart: two lines of one column in float32.
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

  // Large systems are cut into tasks of the largest size, small ones into two that weigh about the same: of what a cut into
  // larger pieces leaves unbalanced, one into smaller pieces is tried.
  void find_tasks() {
    std::vector<double> weight(num_supernodes_);
    double total = 0;
    for (int32_t s = 0; s < num_supernodes_; ++s) {
      const double columns = symbolic_.num_columns(s);
      const double own = columns * (0.5 * columns + symbolic_.num_rows(s)) + 8 * columns;
      weight[s] += own;
      total += own;
      if (symbolic_.parent[s] >= 0) weight[symbolic_.parent[s]] += weight[s];
    }
    if (total > 2 * kMaxTaskEntries || total < 2 * kMinTaskEntries) {
      fill_tasks(cut_tree(weight, kMaxTaskEntries), weight);
    } else {
      for (int pieces = 2; pieces <= 4 && !balance_tasks(cut_tree(weight, total / pieces), weight); ++pieces) {
      }
    }
    task_of_root_.assign(num_supernodes_, -1);
    for (size_t task = 0; task < roots_.size(); ++task) {
      for (const int32_t root : roots_[task]) task_of_root_[root] = static_cast<int32_t>(task);
    }
    result_.num_tasks = static_cast<int32_t>(roots_.size());
  }

  // The roots of the largest subtrees that do not weigh more; upper_ holds what is above them.
  Indices cut_tree(const std::vector<double>& weight, double limit) {
    Indices subtrees;
    upper_.clear();
    for (int32_t s = 0; s < num_supernodes_; ++s) {
      const int32_t parent = symbolic_.parent[s];
      if (weight[s] > limit && symbolic_.subtree[s] < s) {
        upper_.push_back(s);
      } else if (parent < 0 || weight[parent] > limit) {
        subtrees.push_back(s);
      }
    }
    return subtrees;
  }

  // Subtrees that follow each other share a task as long as there is room.
  void fill_tasks(const Indices& subtrees, const std::vector<double>& weight) {
    double filled = 0;
    for (const int32_t root : subtrees) {
      if (roots_.empty() || filled + weight[root] > kMaxTaskEntries) {
        roots_.emplace_back();
        filled = 0;
      }
      filled += weight[root];
      roots_.back().push_back(root);
    }
  }

  // Two tasks, each subtree, the heaviest first, going to the lighter one; whether they weigh about the same.
  bool balance_tasks(Indices subtrees, const std::vector<double>& weight) {
    std::stable_sort(subtrees.begin(), subtrees.end(), [&](int32_t a, int32_t b) { return weight[a] > weight[b]; });
    roots_.assign(2, {});
    double filled[2] = {};
    for (const int32_t root : subtrees) {
      const int lighter = filled[1] < filled[0];
      filled[lighter] += weight[root];
      roots_[lighter].push_back(root);
    }
    for (Indices& roots : roots_) std::sort(roots.begin(), roots.end());
    if (roots_[1].empty()) roots_.pop_back();
    return std::max(filled[0], filled[1]) <= kBalance * 0.5 * (filled[0] + filled[1]);
  }

  // Each node's slots, its stand-ins behind them, begin on a line of memory that no other node writes to.
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

  // The rows that stand in where indices of a node are padded, given its last root: one per lane, as sums into one and
  // the same row would have to wait for each other.
  int32_t stand_ins(int32_t root) const { return result_.slots[root] + symbolic_.num_rows(root); }

  void add_task(int32_t task) {
    Indices members;
    for (const int32_t root : roots_[task]) {
      for (int32_t s = symbolic_.subtree[root]; s <= root; ++s) members.push_back(s);
    }
    std::stable_sort(members.begin(), members.end(), [&](int32_t a, int32_t b) { return order(a) < order(b); });
    root_of_task_ = &roots_[task];
    for (size_t begin = 0; begin < members.size();) {
      size_t end = begin;
      while (end < members.size() && symbolic_.height[members[end]] == symbolic_.height[members[begin]]) ++end;
      add_level(members.data() + begin, members.data() + end, stand_ins(roots_[task].back()));
      begin = end;
    }
    result_.node_roots.insert(result_.node_roots.end(), roots_[task].begin(), roots_[task].end());
    finish_node();
  }

  // By height; in a level the small ones first, and of these the largest first.
  std::tuple<int32_t, bool, double> order(int32_t s) const {
    return {symbolic_.height[s], !is_small(s), -padded_size(symbolic_.num_columns(s), symbolic_.num_rows(s))};
  }

  // Supernodes of one height, the small ones first. Each takes the largest that is left and those with which the least
  // is padded, as long as to visit them together costs less than one by one.
  void add_level(int32_t* begin, int32_t* end, int32_t stand_ins) {
    int32_t* const grouped = std::find_if(begin, end, [&](int32_t s) { return !is_small(s); });
    while (begin < grouped) {
      int32_t columns = symbolic_.num_columns(*begin), rows = symbolic_.num_rows(*begin);
      double apart = cost_of_single(*begin), most_saved = 0;
      int32_t* best_end = begin + 1;
      for (int32_t* last = begin + 1; last < grouped && last - begin < kLanes; ++last) {
        const auto growth = [&](int32_t s) {
          return padded_size(std::max(columns, symbolic_.num_columns(s)), std::max(rows, symbolic_.num_rows(s))) *
                     static_cast<double>(last - begin + 1) -
                 padded_size(symbolic_.num_columns(s), symbolic_.num_rows(s));
        };
        int32_t* const best = std::min_element(last, grouped, [&](int32_t a, int32_t b) { return growth(a) < growth(b); });
        columns = std::max(columns, symbolic_.num_columns(*best));
        rows = std::max(rows, symbolic_.num_rows(*best));
        apart += cost_of_single(*best);
        std::rotate(last, best, best + 1);
        const double saved = apart - cost_of_batch(columns, rows);
        if (saved > most_saved) {
          most_saved = saved;
          best_end = last + 1;
        }
      }
      add_group(begin, best_end, stand_ins);
      begin = best_end;
    }
    for (; begin < end; ++begin) add_group(begin, begin + 1, stand_ins);
  }

  // What the two sweeps of a group cost, in clock cycles for three columns: products and sums, rows that are moved between
  // vectors and memory, and what is there however small the group.
  static double cost_of_batch(double columns, double rows) {
    return kCostOfProduct * columns * (2 * rows + columns) + kCostOfMove * (2 * columns + 3 * rows) + kCostOfGroup;
  }
  double cost_of_single(int32_t s) const {
    const double columns = symbolic_.num_columns(s), column_blocks = num_blocks(symbolic_.num_columns(s)),
                 row_blocks = num_blocks(symbolic_.num_rows(s));
    return kCostOfProduct * columns * (2 * row_blocks + column_blocks) + kCostOfColumn * columns +
           kCostOfMove * (2 * column_blocks + 3 * row_blocks) + kCostOfGroup;
  }

  bool is_small(int32_t s) const {
    return symbolic_.num_columns(s) <= kMaxGroupColumns && symbolic_.num_rows(s) <= kMaxGroupRows;
  }

  static double padded_size(int32_t columns, int32_t rows) { return columns * (0.5 * columns + rows); }

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

  // Where the k-th row of s is in the workspace: a vertex of the same subtree, or a slot of the subtree's root.
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

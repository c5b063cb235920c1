// Whether an index buffer says what it should: the structure of the factor, and every index within its bounds.
#pragma once

#include <algorithm>
#include <vector>

#include "../structure/index_buffer.h"
#include "../structure/layout.h"
#include "check.h"

namespace largesteps {

class IndexChecker {
 public:
  IndexChecker(const System& system, const std::vector<int32_t>& buffer)
      : system_(system), buffer_(buffer), index_{buffer.data()} {}

  // False if something is wrong, which later code might stumble over.
  bool run() {
    const int failures_before = num_failures;
    const auto size = static_cast<int64_t>(buffer_.size());
    CHECK(looks_valid(buffer_.data(), size) && !looks_valid(buffer_.data(), size - 1));
    CHECK(index_[kNumVerts] == system_.num_verts && index_[kNumEntries] == system_.crow.back());
    if (num_failures == failures_before) check_sizes();
    if (num_failures == failures_before) check_bounds();
    if (num_failures == failures_before) check_tree();
    if (num_failures == failures_before) check_entries();
    if (num_failures == failures_before) check_nodes();
    if (num_failures == failures_before) check_groups();
    if (num_failures == failures_before && system_.num_verts <= 300) check_count();
    return num_failures == failures_before;
  }

 private:
  int32_t size_of(Section section) const {
    const int32_t next = section + 1 < kNumSections ? index_[static_cast<Header>(kSectionOffsets + section + 1)]
                                                    : index_[kTotalSize];
    return next - index_[static_cast<Header>(kSectionOffsets + section)];
  }

  // From 0 to the size of what they point into, never falling.
  bool are_starts(Section starts, Section target) const {
    const int32_t last = size_of(starts) - 1;
    bool good = index_[starts][0] == 0 && index_[starts][last] == size_of(target);
    for (int32_t k = 0; k < last; ++k) good = good && index_[starts][k] <= index_[starts][k + 1];
    return good;
  }

  bool is_within(Section section, int32_t lowest, int32_t end) const {
    return std::all_of(index_[section], index_[section] + size_of(section),
                       [&](int32_t value) { return value >= lowest && value < end; });
  }

  void check_sizes() {
    const int32_t verts = index_[kNumVerts], supernodes = index_[kNumSupernodes], nodes = index_[kNumNodes];
    for (const Section section : {kEntryRows, kEntryColumns}) CHECK(size_of(section) == index_[kNumEntries]);
    for (const Section section : {kOldFromNew, kNewFromOld}) CHECK(size_of(section) == verts);
    for (const Section section : {kParent, kSubtree, kSlots, kGroupMembers}) CHECK(size_of(section) == supernodes);
    for (const Section section : {kFirst, kRowStart}) CHECK(size_of(section) == supernodes + 1);
    for (const Section section : {kNodeGroups, kNodeRootStart, kNodeChildStart}) CHECK(size_of(section) == nodes + 1);
    for (const Section section : {kGroupColumns, kGroupRows, kGroupG, kGroupP, kGroupIndices}) {
      CHECK(size_of(section) == index_[kNumGroups]);
    }
    CHECK(size_of(kGroupMemberStart) == index_[kNumGroups] + 1 && size_of(kCrow) == verts + 1);
    CHECK(size_of(kRows) == size_of(kRowsInParent) && size_of(kNodeRoots) == size_of(kRootParents));
    CHECK(size_of(kNodeChildren) == size_of(kChildNodes));
  }

  void check_bounds() {
    const int32_t verts = index_[kNumVerts], supernodes = index_[kNumSupernodes], nodes = index_[kNumNodes];
    for (const Section section : {kEntryRows, kEntryColumns, kOldFromNew, kNewFromOld, kRows}) {
      CHECK(is_within(section, 0, verts));
    }
    for (const Section section : {kSubtree, kNodeRoots, kNodeChildren, kGroupMembers}) {
      CHECK(is_within(section, 0, supernodes));
    }
    CHECK(is_within(kParent, -1, supernodes) && is_within(kRootParents, -1, nodes) && is_within(kChildNodes, 0, nodes));
    CHECK(is_within(kRowsInParent, 0, index_[kMaxFront]) && is_within(kIndices, 0, index_[kWorkspaceRows]));
    CHECK(is_within(kGroupIndices, 0, size_of(kIndices) + 1) && is_within(kSlots, -1, index_[kWorkspaceRows] + 1));
    CHECK(are_starts(kCrow, kEntryColumns) && are_starts(kFirst, kOldFromNew) && are_starts(kRowStart, kRows));
    CHECK(are_starts(kNodeRootStart, kNodeRoots) && are_starts(kNodeChildStart, kNodeChildren));
    CHECK(are_starts(kNodeGroups, kGroupColumns) && are_starts(kGroupMemberStart, kGroupMembers));
  }

  void check_tree() {
    const int32_t supernodes = index_[kNumSupernodes];
    for (int32_t k = 0; k < index_[kNumVerts]; ++k) CHECK(index_[kNewFromOld][index_[kOldFromNew][k]] == k);
    std::vector<int32_t> level(static_cast<size_t>(supernodes), 1);
    int32_t num_levels = 0, max_front = 0;
    int64_t entries = 0;
    for (int32_t s = 0; s < supernodes; ++s) {
      const int32_t n = index_.num_columns(s), r = index_.num_rows(s), parent = index_[kParent][s];
      const int32_t end = index_[kFirst][s + 1], *rows = index_[kRows] + index_[kRowStart][s];
      CHECK(n > 0 && std::is_sorted(rows, rows + r) && std::adjacent_find(rows, rows + r) == rows + r);
      // In postorder a subtree is a range: the children end where the next one begins, and the first of them begins it.
      int32_t child = s - 1;
      while (child >= index_[kSubtree][s] && index_[kParent][child] == s) child = index_[kSubtree][child] - 1;
      CHECK(child == index_[kSubtree][s] - 1);
      num_levels = std::max(num_levels, level[static_cast<size_t>(s)]);
      max_front = std::max(max_front, n + r);
      entries += int64_t{n} * (n + 1) / 2 + int64_t{n} * r;
      CHECK((parent == -1) == (r == 0));
      if (parent == -1) continue;
      CHECK(parent > s && rows[0] >= end && index_[kFirst][parent] <= rows[0] && rows[0] < index_[kFirst][parent + 1]);
      if (parent <= s) return;
      level[static_cast<size_t>(parent)] = std::max(level[static_cast<size_t>(parent)], level[static_cast<size_t>(s)] + 1);
      const int32_t parent_columns = index_.num_columns(parent), *in_parent = index_[kRowsInParent] + index_[kRowStart][s];
      for (int32_t k = 0; k < r; ++k) {
        const int32_t place = in_parent[k];
        if (place >= parent_columns + index_.num_rows(parent)) {
          CHECK(!"a row is beyond the parent's front");
          return;
        }
        CHECK(rows[k] == (place < parent_columns ? index_[kFirst][parent] + place
                                                 : index_[kRows][index_[kRowStart][parent] + place - parent_columns]));
      }
    }
    CHECK(num_levels == index_[kNumLevels] && max_front == index_[kMaxFront] && entries == index_.factor_entries());
  }

  // Every entry of the matrix has a place in the factor.
  void check_entries() {
    std::vector<int32_t> supernode;
    for (int32_t s = 0; s < index_[kNumSupernodes]; ++s) supernode.resize(static_cast<size_t>(index_[kFirst][s + 1]), s);
    for (int32_t row = 0; row < index_[kNumVerts]; ++row) {
      CHECK(index_[kCrow][row] == system_.crow[static_cast<size_t>(row)]);
      for (int32_t k = index_[kCrow][row]; k < index_[kCrow][row + 1]; ++k) {
        CHECK(index_[kEntryRows][k] == row && index_[kEntryColumns][k] == system_.columns[static_cast<size_t>(k)]);
        const int32_t one = index_[kNewFromOld][row], two = index_[kNewFromOld][index_[kEntryColumns][k]];
        const int32_t s = supernode[static_cast<size_t>(std::min(one, two))], below = std::max(one, two);
        const int32_t *begin = index_[kRows] + index_[kRowStart][s], *end = index_[kRows] + index_[kRowStart][s + 1];
        CHECK(below < index_[kFirst][s + 1] || std::binary_search(begin, end, below));
      }
    }
  }

  // Every supernode belongs to one node, whose children come before it; no two have slots in common.
  void check_nodes() {
    std::vector<int32_t> node_of(static_cast<size_t>(index_[kNumSupernodes]), -1);
    std::vector<int32_t> owner(static_cast<size_t>(index_[kWorkspaceRows]), -1);  // the node of each row
    const auto own = [&](int32_t begin, int32_t end, int32_t node) {
      for (int32_t row = begin; row < end; ++row) {
        CHECK(owner[static_cast<size_t>(row)] == -1);
        owner[static_cast<size_t>(row)] = node;
      }
    };
    for (int32_t node = 0; node < index_[kNumNodes]; ++node) {
      for (int32_t k = index_[kNodeRootStart][node]; k < index_[kNodeRootStart][node + 1]; ++k) {
        const int32_t root = index_[kNodeRoots][k], begin = node < index_[kNumTasks] ? index_[kSubtree][root] : root;
        for (int32_t s = begin; s <= root; ++s) {
          CHECK(node_of[static_cast<size_t>(s)] == -1);
          node_of[static_cast<size_t>(s)] = node;
          own(index_[kFirst][s], index_[kFirst][s + 1], node);
        }
        // Behind the slots of the last root are the rows that stand in; the first begins on a line of memory.
        const bool is_last = k + 1 == index_[kNodeRootStart][node + 1];
        const int32_t slots = index_[kSlots][root], end = slots + index_.num_rows(root) + (is_last ? kLanes : 0);
        CHECK(slots >= index_[kNumVerts] && end <= index_[kWorkspaceRows]);
        CHECK(k > index_[kNodeRootStart][node] || slots % 32 == 0);
        own(slots, end, node);
      }
      // It works on rows of its own, so that nodes can be visited at the same time; only the last of the two lists of
      // an upper supernode names rows of others.
      const int32_t begin = index_[kNodeGroups][node], end = index_[kNodeGroups][node + 1];
      const int32_t from = begin < index_[kNumGroups] ? index_[kGroupIndices][begin] : size_of(kIndices);
      int32_t to = end < index_[kNumGroups] ? index_[kGroupIndices][end] : size_of(kIndices);
      if (node >= index_[kNumTasks]) to = from + (to - from) / 2;
      for (int32_t k = from; k < to; ++k) CHECK(owner[static_cast<size_t>(index_[kIndices][k])] == node);
    }
    CHECK(std::count(node_of.begin(), node_of.end(), -1) == 0);
    for (int32_t node = 0; node < index_[kNumNodes]; ++node) {
      for (int32_t k = index_[kNodeRootStart][node]; k < index_[kNodeRootStart][node + 1]; ++k) {
        const int32_t parent = index_[kParent][index_[kNodeRoots][k]], above = index_[kRootParents][k];
        CHECK(above == (parent < 0 ? -1 : node_of[static_cast<size_t>(parent)]) && (above < 0 || above > node));
      }
      for (int32_t k = index_[kNodeChildStart][node]; k < index_[kNodeChildStart][node + 1]; ++k) {
        const int32_t child = index_[kNodeChildren][k];
        CHECK(index_[kParent][child] == index_[kNodeRoots][index_[kNodeRootStart][node]] && index_[kSlots][child] >= 0);
        CHECK(index_[kChildNodes][k] == node_of[static_cast<size_t>(child)] && index_[kChildNodes][k] < node);
      }
    }
  }

  // Every supernode is in one group, and no two groups have numbers of the factor in common.
  void check_groups() {
    std::vector<char> is_member(static_cast<size_t>(index_[kNumSupernodes]), 0);
    std::vector<char> taken(static_cast<size_t>(index_[kFactorBlocks]), 0);
    const auto take = [&](int64_t begin, int64_t size) {
      CHECK(begin >= 0 && begin + size <= index_[kFactorBlocks]);
      if (begin < 0 || begin + size > index_[kFactorBlocks]) return;
      for (int64_t k = begin; k < begin + size; ++k) CHECK(taken[static_cast<size_t>(k)]++ == 0);
    };
    for (int32_t group = 0; group < index_[kNumGroups]; ++group) {
      const int32_t begin = index_[kGroupMemberStart][group], end = index_[kGroupMemberStart][group + 1];
      const int32_t n = index_[kGroupColumns][group], r = index_[kGroupRows][group];
      CHECK(end - begin >= 1 && end - begin <= kLanes);
      for (int32_t k = begin; k < end; ++k) {
        const int32_t s = index_[kGroupMembers][k];
        CHECK(is_member[static_cast<size_t>(s)]++ == 0 && index_.num_columns(s) <= n && index_.num_rows(s) <= r);
      }
      const bool single = end - begin == 1;
      take(index_[kGroupG][group], single ? SingleLayout(n, r).size_g() : BatchLayout(n, r).size_g());
      take(index_[kGroupP][group], single ? SingleLayout(n, r).size_p() : BatchLayout(n, r).size_p());
      const bool upper = group >= index_[kNodeGroups][index_[kNumTasks]];
      const int64_t list = single ? (upper ? 2 : 1) * (round_up(n) + round_up(r)) : int64_t{kLanes} * (n + r);
      const int32_t next = group + 1 < index_[kNumGroups] ? index_[kGroupIndices][group + 1] : size_of(kIndices);
      CHECK(index_[kGroupIndices][group] + list == next);
    }
    CHECK(std::count(is_member.begin(), is_member.end(), 0) == 0 && std::count(taken.begin(), taken.end(), 0) == 0);
  }

  // Against an elimination with a dense pattern.
  void check_count() {
    const auto size = static_cast<size_t>(system_.num_verts);
    std::vector<std::vector<char>> filled(size, std::vector<char>(size, 0));
    for (int32_t k = 0; k < index_[kNumEntries]; ++k) {
      const int32_t row = index_[kNewFromOld][index_[kEntryRows][k]], column = index_[kNewFromOld][index_[kEntryColumns][k]];
      filled[static_cast<size_t>(row)][static_cast<size_t>(column)] = 1;
    }
    int64_t count = 0;
    for (size_t pivot = 0; pivot < size; ++pivot) {
      for (size_t row = pivot; row < size; ++row) {
        if (!filled[row][pivot]) continue;
        ++count;
        for (size_t column = pivot + 1; column < size; ++column) filled[row][column] |= filled[pivot][column];
      }
    }
    CHECK(count_factor_entries(index_) == count && count <= index_.factor_entries());
  }

  const System& system_;
  const std::vector<int32_t>& buffer_;
  const IndexView index_;
};

}  // namespace largesteps

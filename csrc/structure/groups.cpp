#include "groups.h"

#include <algorithm>
#include <tuple>

#include "index_buffer.h"
#include "layout.h"

namespace largesteps {
namespace {

// Groups are for small supernodes: the others fill vectors by themselves.
constexpr int32_t kMaxGroupColumns = 48;
constexpr int32_t kMaxGroupRows = 112;
// Measured clock cycles of a solve with three columns: of a product of vectors, of loading or storing a vector of rows, of a
// column of a single supernode, and the fixed cost of a group.
constexpr double kCostOfProduct = 1.5;
constexpr double kCostOfMove = 12;
constexpr double kCostOfColumn = 12;
constexpr double kCostOfGroup = 60;

class Grouping {
 public:
  Grouping(const Symbolic& symbolic, std::vector<int32_t>& members) : symbolic_(symbolic), members_(members) {}

  std::vector<int32_t> run() {
    std::stable_sort(members_.begin(), members_.end(), [&](int32_t a, int32_t b) { return place(a) < place(b); });
    int32_t* const all_end = members_.data() + members_.size();
    for (int32_t* begin = members_.data(); begin < all_end;) {
      int32_t* end = begin;
      while (end < all_end && symbolic_.height[*end] == symbolic_.height[*begin]) ++end;
      int32_t* const large = std::find_if(begin, end, [&](int32_t s) { return !is_small(s); });
      while (begin < large) begin = take_group(begin, large);
      sizes_.insert(sizes_.end(), static_cast<size_t>(end - begin), 1);
      begin = end;
    }
    return std::move(sizes_);
  }

 private:
  // By height; within a height the small ones first, and of these the largest first.
  std::tuple<int32_t, bool, double> place(int32_t s) const {
    return {symbolic_.height[s], !is_small(s), -stored(symbolic_.num_columns(s), symbolic_.num_rows(s))};
  }

  bool is_small(int32_t s) const {
    return symbolic_.num_columns(s) <= kMaxGroupColumns && symbolic_.num_rows(s) <= kMaxGroupRows;
  }

  static double stored(int32_t columns, int32_t rows) { return columns * (0.5 * columns + rows); }

  // Groups the first one with those that need the least padding, while visiting them together is cheaper than one by one.
  // Returns the end of the group.
  int32_t* take_group(int32_t* begin, int32_t* end) {
    int32_t columns = symbolic_.num_columns(*begin), rows = symbolic_.num_rows(*begin);
    double apart = cost_of_single(*begin), most_saved = 0;
    int32_t* best_end = begin + 1;
    for (int32_t* last = begin + 1; last < end && last - begin < kLanes; ++last) {
      const auto growth = [&](int32_t s) {
        const double padded = stored(std::max(columns, symbolic_.num_columns(s)), std::max(rows, symbolic_.num_rows(s)));
        return padded * static_cast<double>(last - begin + 1) - stored(symbolic_.num_columns(s), symbolic_.num_rows(s));
      };
      int32_t* const next = std::min_element(last, end, [&](int32_t a, int32_t b) { return growth(a) < growth(b); });
      columns = std::max(columns, symbolic_.num_columns(*next));
      rows = std::max(rows, symbolic_.num_rows(*next));
      apart += cost_of_single(*next);
      std::rotate(last, next, next + 1);
      const double saved = apart - cost_of_batch(columns, rows);
      if (saved > most_saved) {
        most_saved = saved;
        best_end = last + 1;
      }
    }
    sizes_.push_back(static_cast<int32_t>(best_end - begin));
    return best_end;
  }

  // Of the two sweeps: forward P; backward P and G; columns and rows are gathered, rows added, columns put back.
  static double cost_of_batch(double columns, double rows) {
    return kCostOfProduct * columns * (2 * rows + columns) + kCostOfMove * (2 * columns + 3 * rows) + kCostOfGroup;
  }

  double cost_of_single(int32_t s) const {
    const double columns = symbolic_.num_columns(s), column_blocks = num_blocks(symbolic_.num_columns(s)),
                 row_blocks = num_blocks(symbolic_.num_rows(s));
    return kCostOfProduct * columns * (2 * row_blocks + column_blocks) + kCostOfColumn * columns +
           kCostOfMove * (2 * column_blocks + 3 * row_blocks) + kCostOfGroup;
  }

  const Symbolic& symbolic_;
  std::vector<int32_t>& members_;
  std::vector<int32_t> sizes_;
};

}  // namespace

std::vector<int32_t> group_by_shape(const Symbolic& symbolic, std::vector<int32_t>& members) {
  return Grouping(symbolic, members).run();
}

}  // namespace largesteps

#include "level_schedule.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace largesteps {
namespace {

// The numbers that a tile of a sweep reads: enough to justify a block of threads, but few enough that a level of a small system
// occupies a whole GPU.
constexpr int64_t kLeastTile = 4096;
constexpr int64_t kLargestTile = 32768;
constexpr int64_t kTilesOfLevel = 1024;
constexpr int32_t kRowsTogether = 8;  // warps of a block
// For longer rows the vector is loaded in pieces, and a tile has at most kRowsTogether rows.
constexpr int64_t kLongRow = 1024;
// Numbers of the fronts of a chunk: a quarter of a gigabyte. A larger front is a chunk by itself.
constexpr int64_t kChunkSize = int64_t{1} << 25;

int32_t check(int64_t size) {
  if (size > std::numeric_limits<int32_t>::max()) throw std::length_error("the level schedule needs more than 31 bits");
  return static_cast<int32_t>(size);
}

class Builder {
 public:
  explicit Builder(const Symbolic& symbolic) : symbolic_(symbolic), num_supernodes_(symbolic.num_supernodes()) {}

  LevelSchedule build() {
    sort_by_height();
    place_values();
    cut_sweeps();
    find_sources();
    place_fronts();
    return std::move(result_);
  }

 private:
  void sort_by_height() {
    result_.order.resize(static_cast<size_t>(num_supernodes_));
    std::iota(result_.order.begin(), result_.order.end(), 0);
    std::stable_sort(result_.order.begin(), result_.order.end(),
                     [&](int32_t a, int32_t b) { return symbolic_.height[a] < symbolic_.height[b]; });
  }

  void place_values() {
    int64_t size = 0;
    for (int32_t s = 0; s < num_supernodes_; ++s) {
      const int64_t n = symbolic_.num_columns(s), r = symbolic_.num_rows(s);
      result_.forward_start.push_back(check(size / kPadding));
      size += r * padded(n);
      result_.backward_start.push_back(check(size / kPadding));
      size += n * padded(n + r);
    }
    check(size / kPadding);
    result_.factor_size = size;
  }

  // Calls visit(begin, end) for the places in the order of each height.
  template <typename Visit>
  void for_each_level(const Visit& visit) const {
    for (int32_t begin = 0; begin < num_supernodes_;) {
      int32_t end = begin;
      while (end < num_supernodes_ && symbolic_.height[result_.order[end]] == symbolic_.height[result_.order[begin]]) ++end;
      visit(begin, end);
      begin = end;
    }
  }

  void cut_sweeps() {
    for_each_level([&](int32_t begin, int32_t end) {
      const auto cut = [&](bool is_forward, std::vector<SweepTile>& tiles) {
        const size_t before = tiles.size();
        const auto shape = [&](int32_t s) {
          const int64_t n = symbolic_.num_columns(s), r = symbolic_.num_rows(s);
          return is_forward ? std::pair{r, n} : std::pair{n, n + r};
        };
        int64_t numbers = 0;
        for (int32_t k = begin; k < end; ++k) {
          const auto [rows, length] = shape(result_.order[k]);
          numbers += rows * length;
        }
        const int64_t target = std::clamp(numbers / kTilesOfLevel, kLeastTile, kLargestTile);
        for (int32_t k = begin; k < end; ++k) {
          const auto [rows, length] = shape(result_.order[k]);
          const int64_t together = length > kLongRow ? 1 : std::max<int64_t>(1, target / (length * kRowsTogether));
          const int64_t height = together * kRowsTogether;
          for (int64_t row = 0; row < rows; row += height) {
            tiles.push_back({result_.order[k], static_cast<int32_t>(row), static_cast<int32_t>(std::min(height, rows - row))});
          }
        }
        return check(static_cast<int64_t>(tiles.size() - before));
      };
      Level level;
      level.num_forward_tiles = cut(true, result_.forward_tiles);
      level.num_backward_tiles = cut(false, result_.backward_tiles);
      result_.levels.push_back(level);
    });
    check(3 * static_cast<int64_t>(result_.backward_tiles.size() + result_.forward_tiles.size()));
  }

  // Where the columns and rows of a supernode begin among those of all.
  int64_t front_row(int32_t s) const { return int64_t{symbolic_.first[s]} + symbolic_.row_start[s]; }

  void find_sources() {
    const int32_t num_slots = symbolic_.row_start.back();
    std::vector<int32_t>& start = result_.gather_start;
    start.assign(static_cast<size_t>(check(int64_t{symbolic_.num_verts} + num_slots + 1)), 0);
    const auto for_each_slot = [&](const auto& visit) {
      for (int32_t s = 0; s < num_supernodes_; ++s) {
        for (int32_t k = symbolic_.row_start[s]; k < symbolic_.row_start[s + 1]; ++k) {
          visit(front_row(symbolic_.parent[s]) + symbolic_.rows_in_parent[k], k);
        }
      }
    };
    for_each_slot([&](int64_t row, int32_t) { ++start[static_cast<size_t>(row) + 1]; });
    std::partial_sum(start.begin(), start.end(), start.begin());
    std::vector<int32_t> next(start.begin(), start.end() - 1);
    result_.gather.resize(static_cast<size_t>(num_slots));
    for_each_slot([&](int64_t row, int32_t slot) {
      result_.gather[static_cast<size_t>(next[static_cast<size_t>(row)]++)] = slot;
    });
  }

  void place_fronts() {
    for (auto* start : {&result_.front_start, &result_.panel_start, &result_.complement_start}) {
      start->resize(static_cast<size_t>(num_supernodes_));
    }
    int64_t complements = 0;
    for_each_level([&](int32_t begin, int32_t end) {
      int64_t fronts = 0, panels = 0;
      for (int32_t k = begin; k < end; ++k) {
        const int32_t s = result_.order[k];
        const int64_t n = symbolic_.num_columns(s), r = symbolic_.num_rows(s), m = n + r;
        if (k == begin || (fronts * kFrontUnit + m * m) > kChunkSize) {
          result_.chunks.emplace_back();
          fronts = panels = 0;
        }
        result_.front_start[s] = check(fronts);
        result_.panel_start[s] = check(panels);
        result_.complement_start[s] = check(complements);
        fronts += front_units(m * m);
        panels += front_units(panel_size(m));
        complements += front_units(r * r);
        const auto num_tiles = static_cast<int32_t>((m + kFrontTile - 1) / kFrontTile);
        for (int32_t column = 0; column < num_tiles; ++column) {
          for (int32_t row = column; row < num_tiles; ++row) result_.front_tiles.push_back({s, row, column});
        }
        FrontChunk& chunk = result_.chunks.back();
        chunk.num_tiles += num_tiles * (num_tiles + 1) / 2;
        chunk.num_panels = std::max(chunk.num_panels, static_cast<int32_t>((n + kFrontPanel - 1) / kFrontPanel));
        chunk.front_units = check(fronts);
        chunk.panel_units = check(panels);
      }
    });
    result_.complement_units = check(complements);
    check(3 * static_cast<int64_t>(result_.front_tiles.size()));
  }

  const Symbolic& symbolic_;
  const int32_t num_supernodes_;
  LevelSchedule result_;
};

}  // namespace

LevelSchedule make_level_schedule(const Symbolic& symbolic) { return Builder(symbolic).build(); }

}  // namespace largesteps

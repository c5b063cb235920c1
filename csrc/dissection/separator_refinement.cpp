#include "separator_refinement.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace largesteps {

namespace {

constexpr uint8_t kSideMask = 3;
constexpr uint8_t kMoved = 4;   // has left the separator in this pass; if drawn in again, it stays
constexpr uint8_t kListed = 8;  // already in the list that is being made
constexpr int32_t kNoSlot = -1;

constexpr double kMaxSideShare = 0.65;    // no move makes a side heavier than this share of the part
constexpr double kImbalanceWeight = 0.5;  // weight of the imbalance against the separator's weight
constexpr int64_t kMinScans = 1000000;    // entries looked at in a pass: a bound for graphs with huge separators
constexpr int64_t kScansPerWeight = 50;
constexpr size_t kMinPatience = 8;

uint8_t side_of(uint8_t state) { return state & kSideMask; }

uint8_t other(uint8_t side) { return side ^ 1; }

}  // namespace

double Cut::cost() const {
  const double uneven = static_cast<double>(std::abs(weights[0] - weights[1])) / static_cast<double>(total() + 1);
  return static_cast<double>(weights[2]) * (1.0 + kImbalanceWeight * uneven * uneven) + uneven;
}

void SeparatorRefiner::separate(const GraphView& graph, const std::vector<int32_t>& candidates, uint8_t* side,
                                Cut& cut) {
  std::array<int64_t, 2> weight = {0, 0};
  boundary_[0].clear();
  boundary_[1].clear();
  for (const int32_t vertex : candidates) {
    const uint8_t own = side[vertex];
    const uint8_t opposite = other(own);
    for (int32_t edge = graph.offsets[vertex]; edge < graph.offsets[vertex + 1]; ++edge) {
      if (side[graph.neighbours[edge]] == opposite) {
        boundary_[own].push_back(vertex);
        weight[own] += graph.weight(vertex);
        break;
      }
    }
  }
  const size_t taken = weight[1] < weight[0] ? 1 : 0;
  cut.separator.assign(boundary_[taken].begin(), boundary_[taken].end());
  for (const int32_t vertex : cut.separator) side[vertex] = kSeparator;
  cut.weights[taken] -= weight[taken];
  cut.weights[2] = weight[taken];
}

void SeparatorRefiner::refine(const GraphView& graph, uint8_t* side, int32_t* slot, int num_passes, Cut& cut) {
  for (int index = 0; index < num_passes; ++index) {
    if (!pass(graph, side, slot, cut)) break;
  }
}

// One pass; false if it brought no improvement.
bool SeparatorRefiner::pass(const GraphView& graph, uint8_t* side, int32_t* slot, Cut& cut) {
  if (cut.separator.empty()) return false;
  entries_.clear();
  moves_.clear();
  drawn_.clear();
  for (const int32_t vertex : cut.separator) {
    slot[vertex] = static_cast<int32_t>(entries_.size());
    entries_.push_back(make_entry(graph, side, vertex));
  }
  const auto max_side = static_cast<int64_t>(kMaxSideShare * static_cast<double>(cut.total()));
  const size_t patience = kMinPatience + cut.separator.size() / 4;  // moves without a new best
  int64_t scans_left = kMinScans + kScansPerWeight * cut.total();
  double best_cost = cut.cost();
  size_t num_best = 0;
  while (moves_.size() < num_best + patience && scans_left > 0) {
    scans_left -= static_cast<int64_t>(entries_.size());
    size_t entry = 0;
    uint8_t to = kLeft;
    if (!choose(cut, max_side, entry, to)) break;
    move(graph, side, slot, entry, to, cut);
    const double cost = cut.cost();
    if (cost < best_cost) {
      best_cost = cost;
      num_best = moves_.size();
    }
  }
  for (const Move& done : moves_) side[done.vertex] = side_of(side[done.vertex]);
  while (moves_.size() > num_best) undo_last(graph, side, cut);
  if (num_best > 0) collect(side, cut);
  return num_best > 0;
}

SeparatorRefiner::Entry SeparatorRefiner::make_entry(const GraphView& graph, const uint8_t* side,
                                                     int32_t vertex) const {
  std::array<int32_t, 4> adjacent = {0, 0, 0, 0};
  for (int32_t edge = graph.offsets[vertex]; edge < graph.offsets[vertex + 1]; ++edge) {
    const int32_t neighbour = graph.neighbours[edge];
    adjacent[side_of(side[neighbour])] += graph.weight(neighbour);
  }
  const int32_t weight = graph.weight(vertex);
  return {vertex, weight, {weight - adjacent[1], weight - adjacent[0]}};
}

// The move with the largest gain that keeps the sides balanced; among equals a move to the lighter side, and of the first
// vertex. Gain, side and place are packed into one number, so there are no branches.
bool SeparatorRefiner::choose(const Cut& cut, int64_t max_side, size_t& entry, uint8_t& to) const {
  constexpr int64_t kNumPlaces = int64_t{1} << 30;
  const uint8_t lighter = cut.weights[1] < cut.weights[0] ? kRight : kLeft;
  const uint8_t heavier = other(lighter);
  const int64_t room = max_side - cut.weights[heavier];
  constexpr int64_t kWorst = std::numeric_limits<int64_t>::min();
  int64_t best = kWorst;
  int64_t place = kNumPlaces - 1;  // downwards
  for (const Entry& candidate : entries_) {
    const int64_t to_lighter = (2 * static_cast<int64_t>(candidate.gain[lighter]) + 1) * kNumPlaces + place;
    const int64_t to_heavier = 2 * static_cast<int64_t>(candidate.gain[heavier]) * kNumPlaces + place;
    best = std::max(best, to_lighter);
    best = std::max(best, candidate.weight <= room ? to_heavier : kWorst);
    --place;
  }
  entry = static_cast<size_t>(kNumPlaces - 1 - (best & (kNumPlaces - 1)));
  to = (best & kNumPlaces) != 0 ? lighter : heavier;
  return !entries_.empty();
}

void SeparatorRefiner::move(const GraphView& graph, uint8_t* side, int32_t* slot, size_t entry, uint8_t to, Cut& cut) {
  const Entry moved = entries_[entry];
  const uint8_t from = other(to);
  entries_[entry] = entries_.back();
  slot[entries_[entry].vertex] = static_cast<int32_t>(entry);
  entries_.pop_back();
  slot[moved.vertex] = kNoSlot;
  side[moved.vertex] = to | kMoved;
  moves_.push_back({moved.vertex, to, drawn_.size()});
  cut.weights[to] += moved.weight;
  cut.weights[2] -= moved.weight;
  for (int32_t edge = graph.offsets[moved.vertex]; edge < graph.offsets[moved.vertex + 1]; ++edge) {
    const int32_t neighbour = graph.neighbours[edge];
    const uint8_t state = side[neighbour];
    if (side_of(state) == kSeparator) {
      // To move it to the other side would now draw the moved vertex in again.
      if (slot[neighbour] != kNoSlot) entries_[static_cast<size_t>(slot[neighbour])].gain[from] -= moved.weight;
    } else if (side_of(state) == from) {
      const int32_t weight = graph.weight(neighbour);
      std::array<int32_t, 4> adjacent = {0, 0, 0, 0};
      for (int32_t next = graph.offsets[neighbour]; next < graph.offsets[neighbour + 1]; ++next) {
        const int32_t around = graph.neighbours[next];
        const uint8_t where = side_of(side[around]);
        adjacent[where] += graph.weight(around);
        if (where == kSeparator && slot[around] != kNoSlot) {
          entries_[static_cast<size_t>(slot[around])].gain[to] += weight;
        }
      }
      side[neighbour] = static_cast<uint8_t>(kSeparator | (state & kMoved));
      slot[neighbour] = kNoSlot;
      if ((state & kMoved) == 0) {
        slot[neighbour] = static_cast<int32_t>(entries_.size());
        entries_.push_back({neighbour, weight, {weight - adjacent[1], weight - adjacent[0]}});
      }
      drawn_.push_back(neighbour);
      cut.weights[from] -= weight;
      cut.weights[2] += weight;
    }
  }
}

// Undoes the last move in the sides and weights; the entries are invalid afterwards.
void SeparatorRefiner::undo_last(const GraphView& graph, uint8_t* side, Cut& cut) {
  const Move last = moves_.back();
  moves_.pop_back();
  const uint8_t from = other(last.to);
  for (size_t index = last.first_drawn; index < drawn_.size(); ++index) {
    const int32_t weight = graph.weight(drawn_[index]);
    side[drawn_[index]] = from;
    cut.weights[from] += weight;
    cut.weights[2] -= weight;
  }
  drawn_.resize(last.first_drawn);
  const int32_t weight = graph.weight(last.vertex);
  side[last.vertex] = kSeparator;
  cut.weights[last.to] -= weight;
  cut.weights[2] += weight;
}

// Lists the separator again: a subset of its first vertices and of those drawn in.
void SeparatorRefiner::collect(uint8_t* side, Cut& cut) {
  drawn_.insert(drawn_.end(), cut.separator.begin(), cut.separator.end());
  cut.separator.clear();
  for (const int32_t vertex : drawn_) {
    if (side[vertex] != kSeparator) continue;  // elsewhere, or listed
    side[vertex] = kSeparator | kListed;
    cut.separator.push_back(vertex);
  }
  for (const int32_t vertex : cut.separator) side[vertex] = kSeparator;
}

}  // namespace largesteps

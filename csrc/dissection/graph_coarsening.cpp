#include "graph_coarsening.h"

#include <cstddef>
#include <numeric>

namespace largesteps {

namespace {

constexpr int32_t kNone = -1;
constexpr int32_t kMaxScattered = 20000;

// The stride between successively visited vertices. Pairs merged next to each other line up, and such graphs have poor cuts;
// strides of the golden ratio spread the pairs evenly. The stride and the number of vertices have no common divisor, so every
// vertex is visited. Large graphs, which will be merged many more times, are visited in order, because that is faster.
int32_t scattering_step(int32_t num_verts) {
  if (num_verts > kMaxScattered) return 1;
  auto step = static_cast<int32_t>(0.618 * num_verts);
  while (std::gcd(step, num_verts) != 1) ++step;
  return step;
}

}  // namespace

void GraphCoarsener::coarsen(const WeightedGraph& fine, int32_t max_weight, int32_t variant, WeightedGraph& coarse,
                             std::vector<int32_t>& coarse_of) {
  match(fine, max_weight, variant);
  const auto size = static_cast<size_t>(fine.num_verts);
  coarse_of.resize(size);
  int32_t num_coarse = 0;
  for (size_t vertex = 0; vertex < size; ++vertex) {
    const auto partner = static_cast<size_t>(partner_[vertex]);
    coarse_of[vertex] = partner < vertex ? coarse_of[partner] : num_coarse++;
  }
  coarse.num_verts = num_coarse;
  contract(fine, coarse_of, coarse);
}

void GraphCoarsener::match(const WeightedGraph& fine, int32_t max_weight, int32_t variant) {
  const auto size = static_cast<size_t>(fine.num_verts);
  partner_.assign(size, kNone);
  waiting_.assign(size, kNone);
  const int32_t* const weights = fine.vertex_weights.data();
  int32_t lone = kNone;  // a vertex without neighbours that is left over so far
  const int32_t step = scattering_step(fine.num_verts);
  int32_t vertex = static_cast<int32_t>(static_cast<int64_t>(variant) * fine.num_verts / 5 % fine.num_verts);
  for (int32_t count = 0; count < fine.num_verts; ++count) {
    vertex += vertex < fine.num_verts - step ? step : step - fine.num_verts;
    if (partner_[static_cast<size_t>(vertex)] != kNone) continue;
    const int32_t room = max_weight - weights[vertex];
    int32_t best = kNone;
    int32_t best_weight = 0;
    int32_t hub = kNone;  // the neighbour at which to wait for another left-over vertex
    int32_t hub_weight = 0;
    const int32_t end = fine.offsets[static_cast<size_t>(vertex) + 1];
    for (int32_t edge = fine.offsets[static_cast<size_t>(vertex)]; edge < end; ++edge) {
      const int32_t neighbour = fine.neighbours[static_cast<size_t>(edge)];
      const int32_t weight = fine.edge_weights[static_cast<size_t>(edge)];
      if (weight > hub_weight) {
        hub = neighbour;
        hub_weight = weight;
      }
      if (weight < best_weight || partner_[static_cast<size_t>(neighbour)] != kNone) continue;
      if (weights[neighbour] > room) continue;
      // Among edges of equal weight choose the one to the lightest vertex, so that weights stay similar.
      if (weight > best_weight || weights[neighbour] < weights[best]) {
        best = neighbour;
        best_weight = weight;
      }
    }
    if (best == kNone) {
      int32_t& place = hub == kNone ? lone : waiting_[static_cast<size_t>(hub)];
      if (place == kNone || partner_[static_cast<size_t>(place)] != kNone || weights[place] > room) {
        place = vertex;
        continue;
      }
      best = place;
      place = kNone;
    }
    partner_[static_cast<size_t>(vertex)] = best;
    partner_[static_cast<size_t>(best)] = vertex;
  }
  for (int32_t index = 0; index < fine.num_verts; ++index) {
    int32_t& partner = partner_[static_cast<size_t>(index)];
    if (partner == kNone) partner = index;
  }
}

void GraphCoarsener::contract(const WeightedGraph& fine, const std::vector<int32_t>& coarse_of, WeightedGraph& coarse) {
  const auto num_coarse = static_cast<size_t>(coarse.num_verts);
  coarse.offsets.resize(num_coarse + 1);
  coarse.vertex_weights.resize(num_coarse);
  coarse.neighbours.resize(fine.neighbours.size());
  coarse.edge_weights.resize(fine.neighbours.size());
  position_.assign(num_coarse, kNone);
  int32_t count = 0;
  int32_t row = 0;
  const auto add_edges = [&](size_t vertex, int32_t row_begin) {
    const int32_t end = fine.offsets[vertex + 1];
    for (int32_t edge = fine.offsets[vertex]; edge < end; ++edge) {
      const int32_t neighbour = coarse_of[static_cast<size_t>(fine.neighbours[static_cast<size_t>(edge)])];
      if (neighbour == row) continue;
      const int32_t weight = fine.edge_weights[static_cast<size_t>(edge)];
      int32_t& position = position_[static_cast<size_t>(neighbour)];
      if (position >= row_begin) {
        coarse.edge_weights[static_cast<size_t>(position)] += weight;
      } else {
        position = count;
        coarse.neighbours[static_cast<size_t>(count)] = neighbour;
        coarse.edge_weights[static_cast<size_t>(count)] = weight;
        ++count;
      }
    }
  };
  coarse.offsets[0] = 0;
  for (size_t vertex = 0; vertex < static_cast<size_t>(fine.num_verts); ++vertex) {
    const auto partner = static_cast<size_t>(partner_[vertex]);
    if (partner < vertex) continue;
    const int32_t row_begin = count;
    coarse.vertex_weights[static_cast<size_t>(row)] = fine.vertex_weights[vertex];
    add_edges(vertex, row_begin);
    if (partner != vertex) {
      coarse.vertex_weights[static_cast<size_t>(row)] += fine.vertex_weights[partner];
      add_edges(partner, row_begin);
    }
    coarse.offsets[static_cast<size_t>(++row)] = count;
  }
  coarse.neighbours.resize(static_cast<size_t>(count));
  coarse.edge_weights.resize(static_cast<size_t>(count));
}

}  // namespace largesteps

#include "garfast/noise_bias_act.h"

#include <algorithm>
#include <type_traits>

#include "epilogue.h"
#include "rows.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

// Below this many elements starting threads costs more than it saves.
constexpr int64_t kSerial = 16384;

struct Block {
  int64_t sample, row_block, lane_block, row_begin, row_end, lane_begin, lanes;

  Block(const EpilogueShape& s, int64_t task) {
    lane_block = task % s.lane_blocks;
    row_block = task / s.lane_blocks % s.row_blocks;
    sample = task / (s.lane_blocks * s.row_blocks);
    row_begin = row_block * s.row_block;
    row_end = std::min(row_begin + s.row_block, s.rows);
    lane_begin = lane_block * s.lane_block;
    lanes = std::min(s.lane_block, s.lanes - lane_begin);
  }
};

// Rows that are walked side by side: several where the data comes from memory, one where a cache holds it, whose sets
// the rows of a power of two would crowd.
constexpr int kRows = 4;
constexpr int64_t kCached = int64_t(1) << 21;

template <int kCount, typename A>
void forward_rows(const NoiseBiasActParams<A>& p, const Block& k, const LaneTerms<A>& lane, int64_t row) {
  const EpilogueShape& s = p.shape;
  const A gain = p.terms.gain, clamp = p.terms.clamp, alpha = p.terms.alpha;
  const int64_t offset = (k.sample * s.rows + row) * s.lanes + k.lane_begin;
  RowTerms<A> terms[kCount];
  for (int j = 0; j < kCount; ++j) {
    const RowTerms<A> r = row_terms(s, p.terms, k.sample, row + j);
    terms[j] = {r.scale * gain, r.shift * gain};
  }
  const auto run = clamp == clamp ? epilogue_rows<kCount, true, A> : epilogue_rows<kCount, false, A>;
  run(p.x + offset, lane.scale.data(), lane.shift.data(), terms, alpha, clamp, p.y + offset, s.lanes, k.lanes);
}

// The block of a format that is computed in itself, where all terms are sums of one number per row and one per lane.
template <typename A>
void forward_block(const NoiseBiasActParams<A>& p, const Block& k, LaneTerms<A>& lane, bool cached) {
  for (int64_t i = 0; i < k.lanes; ++i) lane.shift[i] *= p.terms.gain;
  int64_t row = k.row_begin;
  for (; !cached && row + kRows <= k.row_end; row += kRows) forward_rows<kRows>(p, k, lane, row);
  for (; row < k.row_end; ++row) forward_rows<1>(p, k, lane, row);
}

template <typename S>
void forward(const NoiseBiasActParams<S>& p) {
  using A = accumulate_t<S>;
  const EpilogueShape& s = p.shape;
  const int64_t tasks = s.batch * s.row_blocks * s.lane_blocks;
  const bool per_element = (p.terms.scale_map.data && p.terms.scale_map.per_element) ||
                           (p.terms.shift_map.data && p.terms.shift_map.per_element);
  const bool cached = s.batch * s.rows * s.lanes <= kCached;
#pragma omp parallel num_threads(p.num_threads) if (tasks > 1 && s.batch * s.rows * s.lanes > kSerial)
  {
    LaneTerms<A> lane(s.lane_block);
    Scratch<A> wide(s.lane_block), out(s.lane_block);
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
      const Block k(s, task);
      lane.load(s, p.terms, k.sample, k.lane_begin, k.lanes);
      if constexpr (std::is_same_v<S, A>) {
        if (!per_element) {
          forward_block(p, k, lane, cached);
          continue;
        }
      }
      for (int64_t row = k.row_begin; row < k.row_end; ++row) {
        const int64_t offset = (k.sample * s.rows + row) * s.lanes + k.lane_begin;
        const RowTerms<A> r = row_terms(s, p.terms, k.sample, row);
        const A *scale, *shift;
        lane.at_row(s, p.terms, k.sample, row, k.lane_begin, k.lanes, &scale, &shift);
        A* y = write_row(p.y + offset, out.data());
        epilogue_row(read_row(p.x + offset, wide.data(), k.lanes), scale, shift, r, p.terms, y, k.lanes);
        finish_row(y, p.y + offset, k.lanes);
      }
    }
  }
}

// One row of g = grad_y dy/dv and what follows from it. Adds to lane_g and lane_gx; returns the sums along the row.
template <bool kWithX, typename S, typename A>
void backward_row(const A* __restrict grad_y, const A* __restrict y, const A* __restrict x, const A* __restrict scale,
                  A row_scale, const EpilogueTerms<S>& t, A* __restrict g, A* __restrict grad_x, A* __restrict lane_g,
                  A* __restrict lane_gx, A* sum_g, A* sum_gx, int64_t n) {
  const A alpha = t.alpha, gain = t.gain, clamp = t.clamp;
  A total_g = 0, total_gx = 0;
#pragma omp simd reduction(+ : total_g, total_gx)
  for (int64_t i = 0; i < n; ++i) {
    const A gi = grad_y[i] * activation_slope(y[i], alpha, gain, clamp);
    g[i] = gi;
    grad_x[i] = gi * (row_scale * scale[i]);
    lane_g[i] += gi;
    total_g += gi;
    if constexpr (kWithX) {
      const A gx = gi * x[i];
      lane_gx[i] += gx * row_scale;
      total_gx += gx * scale[i];
    }
  }
  *sum_g = total_g;
  *sum_gx = total_gx;
}

template <typename S>
void backward_block(const NoiseBiasActBackwardParams<S>& p, const Block& k, LaneTerms<accumulate_t<S>>& lane,
                    accumulate_t<S>* scratch) {
  using A = accumulate_t<S>;
  const EpilogueShape& s = p.shape;
  const int64_t n = k.lanes, size = s.lane_block;
  A *wide_grad = scratch, *wide_y = scratch + size, *wide_x = scratch + 2 * size, *g = scratch + 3 * size,
    *grad_x = scratch + 4 * size, *lane_g = scratch + 5 * size, *lane_gx = scratch + 6 * size;
  for (int64_t i = 0; i < n; ++i) lane_g[i] = lane_gx[i] = A(0);
  lane.load(s, p.terms, k.sample, k.lane_begin, n);
  const int64_t row_stride = s.batch * s.lane_blocks * s.rows, lane_stride = s.batch * s.row_blocks * s.lanes;
  for (int64_t row = k.row_begin; row < k.row_end; ++row) {
    const int64_t offset = (k.sample * s.rows + row) * s.lanes + k.lane_begin;
    const RowTerms<A> r = row_terms(s, p.terms, k.sample, row);
    const A *scale, *shift;
    lane.at_row(s, p.terms, k.sample, row, k.lane_begin, n, &scale, &shift);
    const A* grad_y = read_row(p.grad_y + offset, wide_grad, n);
    const A* y = read_row(p.y + offset, wide_y, n);
    A* out = p.grad_x ? write_row(p.grad_x + offset, grad_x) : grad_x;
    A sum_g, sum_gx;
    if (p.x) {
      const A* x = read_row(p.x + offset, wide_x, n);
      if (p.grad_scale_map) {  // g d x: `scale` has m in it, so d comes from before it was put in
        for (int64_t i = 0; i < n; ++i) {
          const A gi = grad_y[i] * activation_slope(y[i], p.terms.alpha, p.terms.gain, p.terms.clamp);
          p.grad_scale_map[offset + i] = narrow<S>(gi * x[i] * (s.channels_last ? lane.scale[i] : r.scale));
        }
      }
      if (s.channels_last && p.terms.scale_map.per_element) {  // m varies along the lanes: into x for the sums of g m x
        const S* m = p.terms.scale_map.data + k.sample * p.terms.scale_map.batch_stride + row * s.lanes + k.lane_begin;
        for (int64_t i = 0; i < n; ++i) wide_x[i] = x[i] * widen(m[i]);
        x = wide_x;
      }
      backward_row<true>(grad_y, y, x, scale, r.scale, p.terms, g, out, lane_g, lane_gx, &sum_g, &sum_gx, n);
    } else {
      backward_row<false>(grad_y, y, static_cast<const A*>(nullptr), scale, r.scale, p.terms, g, out, lane_g, lane_gx,
                          &sum_g, &sum_gx, n);
    }
    if (p.grad_x) finish_row(out, p.grad_x + offset, n);
    if (p.grad_shift_map) narrow_row(g, p.grad_shift_map + offset, n);
    if (p.row_partials) {
      A* sums = p.row_partials + (k.sample * s.lane_blocks + k.lane_block) * s.rows + row;
      sums[0] = sum_g;
      sums[row_stride] = sum_gx;
    }
  }
  if (p.lane_partials) {
    A* sums = p.lane_partials + (k.sample * s.row_blocks + k.row_block) * s.lanes + k.lane_begin;
    for (int64_t i = 0; i < n; ++i) sums[i] = lane_g[i], sums[lane_stride + i] = lane_gx[i];
  }
}

// out[i, j] = sum over k, in order, of partials[i, k, j].
template <typename A>
void sum_blocks(const A* partials, A* out, int64_t outer, int64_t blocks, int64_t inner) {
  constexpr int64_t kChunk = 1024;
  const int64_t chunks = (inner + kChunk - 1) / kChunk;
#pragma omp for schedule(static)
  for (int64_t task = 0; task < outer * chunks; ++task) {
    const int64_t i = task / chunks, begin = task % chunks * kChunk, end = std::min(begin + kChunk, inner);
    for (int64_t j = begin; j < end; ++j) out[i * inner + j] = partials[i * blocks * inner + j];
    for (int64_t k = 1; k < blocks; ++k)
      for (int64_t j = begin; j < end; ++j) out[i * inner + j] += partials[(i * blocks + k) * inner + j];
  }
}

// The sum of g noise, from the sums of g over channels.
template <typename S>
accumulate_t<S> strength_sum(const NoiseBiasActBackwardParams<S>& p) {
  using A = accumulate_t<S>;
  const EpilogueShape& s = p.shape;
  const A* sums = s.channels_last ? p.row_sums : p.lane_sums;
  A total = 0;
  for (int64_t b = 0; b < s.batch; ++b) {
    const S* noise = p.terms.noise.data + b * p.terms.noise.batch_stride;
    A sample = 0;
#pragma omp simd reduction(+ : sample)
    for (int64_t i = 0; i < s.pixels; ++i) sample += widen(noise[i]) * sums[b * s.pixels + i];
    total += sample;
  }
  return total;
}

template <typename S>
void backward(const NoiseBiasActBackwardParams<S>& p) {
  using A = accumulate_t<S>;
  const EpilogueShape& s = p.shape;
  const int64_t tasks = s.batch * s.row_blocks * s.lane_blocks;
#pragma omp parallel num_threads(p.num_threads) if (tasks > 1 && s.batch * s.rows * s.lanes > kSerial)
  {
    LaneTerms<A> lane(s.lane_block);
    Scratch<A> scratch(7 * s.lane_block);
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) backward_block(p, Block(s, task), lane, scratch.data());
    // The loop's implicit barrier: all partial sums are there.
    if (p.row_partials) {
      sum_blocks(p.row_partials, p.row_sums, 2 * s.batch, s.lane_blocks, s.rows);
      sum_blocks(p.lane_partials, p.lane_sums, 2 * s.batch, s.row_blocks, s.lanes);
    }
  }
  if (p.strength_sum) *p.strength_sum = strength_sum(p);
}

}  // namespace

void noise_bias_act_forward(const NoiseBiasActParams<float>& p) { forward(p); }
void noise_bias_act_forward(const NoiseBiasActParams<double>& p) { forward(p); }
void noise_bias_act_forward(const NoiseBiasActParams<Half>& p) { forward(p); }
void noise_bias_act_forward(const NoiseBiasActParams<BFloat16>& p) { forward(p); }
void noise_bias_act_backward(const NoiseBiasActBackwardParams<float>& p) { backward(p); }
void noise_bias_act_backward(const NoiseBiasActBackwardParams<double>& p) { backward(p); }
void noise_bias_act_backward(const NoiseBiasActBackwardParams<Half>& p) { backward(p); }
void noise_bias_act_backward(const NoiseBiasActBackwardParams<BFloat16>& p) { backward(p); }

}  // namespace GARFAST_ISA
}  // namespace garfast

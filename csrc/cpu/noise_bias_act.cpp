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

// Rows that are walked side by side: four where the data comes from memory, two where a cache holds it, whose sets more
// rows of a power of two would crowd.
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
void forward_block(const NoiseBiasActParams<A>& p, const Block& k, const LaneTerms<A>& lane, bool cached) {
  int64_t row = k.row_begin;
  for (; !cached && row + 4 <= k.row_end; row += 4) forward_rows<4>(p, k, lane, row);
  for (; row + 2 <= k.row_end; row += 2) forward_rows<2>(p, k, lane, row);
  for (; row < k.row_end; ++row) forward_rows<1>(p, k, lane, row);
}

template <typename S>
void forward(const NoiseBiasActParams<S>& p) {
  using A = accumulate_t<S>;
  const EpilogueShape& s = p.shape;
  const int64_t tasks = s.batch * s.row_blocks * s.lane_blocks;
  const bool per_element = (p.terms.scale_map.data && p.terms.scale_map.per_element) ||
                           (p.terms.shift_map.data && p.terms.shift_map.per_element);
  const bool rows_at_once = std::is_same_v<S, A> && !per_element;
  const bool cached = s.batch * s.rows * s.lanes <= kCached;
#pragma omp parallel num_threads(p.num_threads) if (tasks > 1 && s.batch * s.rows * s.lanes > kSerial)
  {
    LaneTerms<A> lane(s.lane_block);
    Scratch<A> wide(s.lane_block), out(s.lane_block);
    int64_t loaded = -1;  // the sample and lanes that `lane` has the terms of
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
      // A lane block's rows come one after another, so that its terms are loaded once.
      const int64_t column = task / s.row_blocks, sample = column / s.lane_blocks, lane_block = column % s.lane_blocks;
      const Block k(s, (sample * s.row_blocks + task % s.row_blocks) * s.lane_blocks + lane_block);
      if (column != loaded) {
        lane.load(s, p.terms, k.sample, k.lane_begin, k.lanes);
        if (rows_at_once)
          for (int64_t i = 0; i < k.lanes; ++i) lane.shift[i] *= p.terms.gain;
        loaded = column;
      }
      if constexpr (std::is_same_v<S, A>) {
        if (rows_at_once) {
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

// A row of the backward: where its numbers are, and its sums.
template <typename A>
struct GradientRow {
  const A *grad_y, *y, *x;
  A scale;
  A* grad_x;  // out
  A sum_g = 0, sum_gx = 0;
};

// `kRows` (1 or 2) rows of g = grad_y dy/dv and what follows from it. Adds to lane_g and lane_gx. Two rows at once
// share what is loaded and stored for the lanes; g itself is written for a single row only.
template <int kRows, bool kWithX, typename S, typename A>
void backward_rows(GradientRow<A>* rows, const A* __restrict scale, const EpilogueTerms<S>& t, A* __restrict g,
                   A* __restrict lane_g, A* __restrict lane_gx, int64_t n) {
  static_assert(kRows == 1 || kRows == 2);
  GradientRow<A>&first = rows[0], &second = rows[kRows - 1];
  const A* __restrict grad_y = first.grad_y, * __restrict y = first.y, * __restrict x = first.x;
  const A* __restrict grad_y2 = second.grad_y, * __restrict y2 = second.y, * __restrict x2 = second.x;
  A* __restrict grad_x = first.grad_x, * __restrict grad_x2 = second.grad_x;
  const A alpha = t.alpha, gain = t.gain, clamp = t.clamp, row_scale = first.scale, row_scale2 = second.scale;
  A sum_g = 0, sum_gx = 0, sum_g2 = 0, sum_gx2 = 0;
#pragma omp simd reduction(+ : sum_g, sum_gx, sum_g2, sum_gx2)
  for (int64_t i = 0; i < n; ++i) {
    const A lane_scale = scale[i], gi = grad_y[i] * activation_slope(y[i], alpha, gain, clamp);
    if constexpr (kRows == 1) g[i] = gi;
    grad_x[i] = gi * (row_scale * lane_scale);
    sum_g += gi;
    A column_g = gi, column_gx = 0;
    if constexpr (kWithX) {
      const A gx = gi * x[i];
      column_gx = gx * row_scale;
      sum_gx += gx * lane_scale;
    }
    if constexpr (kRows == 2) {
      const A gi2 = grad_y2[i] * activation_slope(y2[i], alpha, gain, clamp);
      grad_x2[i] = gi2 * (row_scale2 * lane_scale);
      sum_g2 += gi2;
      column_g += gi2;
      if constexpr (kWithX) {
        const A gx2 = gi2 * x2[i];
        column_gx += gx2 * row_scale2;
        sum_gx2 += gx2 * lane_scale;
      }
    }
    lane_g[i] += column_g;
    if constexpr (kWithX) lane_gx[i] += column_gx;
  }
  first.sum_g = sum_g, first.sum_gx = sum_gx;
  if constexpr (kRows == 2) second.sum_g = sum_g2, second.sum_gx = sum_gx2;
}

template <typename S>
void backward_block(const NoiseBiasActBackwardParams<S>& p, const Block& k, LaneTerms<accumulate_t<S>>& lane,
                    accumulate_t<S>* scratch) {
  using A = accumulate_t<S>;
  const EpilogueShape& s = p.shape;
  const int64_t n = k.lanes, size = s.lane_block;
  A *wide_grad = scratch, *wide_y = scratch + size, *wide_x = scratch + 2 * size, *g = scratch + 3 * size,
    *grad_x = scratch + 4 * size, *lane_g = scratch + 6 * size, *lane_gx = scratch + 7 * size;
  for (int64_t i = 0; i < n; ++i) lane_g[i] = lane_gx[i] = A(0);
  lane.load(s, p.terms, k.sample, k.lane_begin, n);
  const int64_t row_stride = s.batch * s.lane_blocks * s.rows, lane_stride = s.batch * s.row_blocks * s.lanes;
  const auto keep_sums = [&](int64_t row, const GradientRow<A>& r) {
    if (!p.row_partials) return;
    A* sums = p.row_partials + (k.sample * s.lane_blocks + k.lane_block) * s.rows + row;
    sums[0] = r.sum_g;
    sums[row_stride] = r.sum_gx;
  };
  int64_t row = k.row_begin;
  if constexpr (std::is_same_v<S, A>) {  // rows as they are, two at once where nothing differs from element to element
    const bool per_element =
        (p.terms.scale_map.data && p.terms.scale_map.per_element) || p.grad_scale_map || p.grad_shift_map;
    for (; !per_element && row + 2 <= k.row_end; row += 2) {
      GradientRow<A> rows[2];
      for (int j = 0; j < 2; ++j) {
        const int64_t offset = (k.sample * s.rows + row + j) * s.lanes + k.lane_begin;
        const A row_scale = row_terms(s, p.terms, k.sample, row + j).scale;
        rows[j] = {p.grad_y + offset, p.y + offset, p.x ? p.x + offset : nullptr, row_scale,
                   p.grad_x ? p.grad_x + offset : grad_x + j * size};
      }
      const auto run = p.x ? backward_rows<2, true, S, A> : backward_rows<2, false, S, A>;
      run(rows, lane.scale.data(), p.terms, g, lane_g, lane_gx, n);
      keep_sums(row, rows[0]);
      keep_sums(row + 1, rows[1]);
    }
  }
  for (; row < k.row_end; ++row) {
    const int64_t offset = (k.sample * s.rows + row) * s.lanes + k.lane_begin;
    const RowTerms<A> r = row_terms(s, p.terms, k.sample, row);
    const A *scale, *shift;
    lane.at_row(s, p.terms, k.sample, row, k.lane_begin, n, &scale, &shift);
    const A* grad_y = read_row(p.grad_y + offset, wide_grad, n);
    const A* y = read_row(p.y + offset, wide_y, n);
    A* out = p.grad_x ? write_row(p.grad_x + offset, grad_x) : grad_x;
    GradientRow<A> one = {grad_y, y, nullptr, r.scale, out};
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
      one.x = x;
      backward_rows<1, true>(&one, scale, p.terms, g, lane_g, lane_gx, n);
    } else {
      backward_rows<1, false>(&one, scale, p.terms, g, lane_g, lane_gx, n);
    }
    if (p.grad_x) finish_row(out, p.grad_x + offset, n);
    if (p.grad_shift_map) narrow_row(g, p.grad_shift_map + offset, n);
    keep_sums(row, one);
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
    Scratch<A> scratch(8 * s.lane_block);
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

// Forward: a thread per 16 bytes. Backward: a thread owns a few lanes and walks down a block's rows, which several
// groups of threads share where one row has few lanes; the sums along lanes stay in its registers, the sums along rows
// go through warp shuffles, and both leave as partial sums that a second kernel adds in a fixed order. One pass over
// the data, no atomics.
#include "garfast/cuda_epilogue.h"
#include "garfast/cuda_index.h"
#include "garfast/cuda_kernels.h"
#include "garfast/cuda_launch.h"
#include "garfast/cuda_warp.h"
#include "garfast/noise_bias_act.h"

namespace garfast {
namespace cuda {
namespace {

using baseline::activate;
using baseline::activation_slope;

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kMaxRowBlock = 64;

template <typename S, int V>
__global__ void __launch_bounds__(kThreads) forward_kernel(NoiseBiasActParams<S> p) {
  using A = accumulate_t<S>;
  const EpilogueShape& s = p.shape;
  const EpilogueTerms<S>& t = p.terms;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x, per_row = s.lanes / V;
  if (i >= s.batch * s.rows * per_row) return;
  const Division pack = divide(i, per_row), place = divide(pack.quotient, s.rows);
  const int64_t lane = pack.rest * V, row = place.rest, sample = place.quotient;
  const int64_t within = row * s.lanes + lane, offset = sample * s.rows * s.lanes + within;
  A x[V], scale[V], shift[V];
  load_pack<V, true>(p.x + offset, x);
  element_terms<V>(s, t, sample, row, lane, scale, shift);
#pragma unroll
  for (int k = 0; k < V; ++k) x[k] = activate(x[k] * scale[k] + shift[k], t.alpha, t.gain, t.clamp);
  store_pack<V, true>(x, p.y + offset);
}

template <typename S, int V, bool kPacked>
__global__ void __launch_bounds__(kThreads) backward_kernel(NoiseBiasActBackwardParams<S> p) {
  using A = accumulate_t<S>;
  const EpilogueShape& s = p.shape;
  const EpilogueTerms<S>& t = p.terms;
  __shared__ A warp_sums[2][kMaxRowBlock][kWarps];
  __shared__ A group_sums[2][kThreads * V];
  const int across = int(s.lane_block) / V, group = int(threadIdx.x) / across, groups = kThreads / across;
  const int place = int(threadIdx.x) % across;
  const int64_t lane_block = blockIdx.x % s.lane_blocks, row_block = blockIdx.x / s.lane_blocks % s.row_blocks,
                sample = blockIdx.x / (s.lane_blocks * s.row_blocks);
  const int64_t lane = lane_block * s.lane_block + int64_t(place) * V, first = row_block * s.row_block;
  const int64_t count = min(s.row_block, s.rows - first);
  const bool active = lane < s.lanes;
  A lane_scale[V], unused[V], lane_g[V], lane_gx[V];
#pragma unroll
  for (int k = 0; k < V; ++k) lane_scale[k] = lane_g[k] = lane_gx[k] = A(0);
  if (active) lane_terms<V, kPacked>(s, t, sample, lane, lane_scale, unused);
  for (int64_t r = group; r < count; r += groups) {
    A sum_g = 0, sum_gx = 0;
    if (active) {
      const int64_t within = (first + r) * s.lanes + lane, offset = sample * s.rows * s.lanes + within;
      A g[V], y[V], x[V], m[V], row_scale, row_shift;
      load_pack<V, kPacked>(p.grad_y + offset, g);
      load_pack<V, kPacked>(p.y + offset, y);
      if (p.x) load_pack<V, kPacked>(p.x + offset, x);
      row_terms(s, t, sample, first + r, &row_scale, &row_shift);
#pragma unroll
      for (int k = 0; k < V; ++k) m[k] = A(1);
      if (per_element(t.scale_map))
        load_pack<V, kPacked>(t.scale_map.data + sample * t.scale_map.batch_stride + within, m);
#pragma unroll
      for (int k = 0; k < V; ++k) {
        g[k] *= activation_slope(y[k], t.alpha, t.gain, t.clamp);
        y[k] = g[k] * (row_scale * (lane_scale[k] * m[k]));
        lane_g[k] += g[k];
        sum_g += g[k];
      }
      if (p.grad_x) store_pack<V, kPacked>(y, p.grad_x + offset);
      if (p.grad_shift_map) store_pack<V, kPacked>(g, p.grad_shift_map + offset);
      if (p.x) {
#pragma unroll
        for (int k = 0; k < V; ++k) {
          const A gx = g[k] * x[k];
          lane_gx[k] += gx * m[k] * row_scale;
          sum_gx += gx * m[k] * lane_scale[k];
          x[k] = gx * (s.channels_last ? lane_scale[k] : row_scale);  // g d x, for a per-element m
        }
        if (p.grad_scale_map) store_pack<V, kPacked>(x, p.grad_scale_map + offset);
      }
    }
    if (p.row_partials) {
      sum_g = warp_sum(sum_g);
      sum_gx = warp_sum(sum_gx);
      if (place % 32 == 0) {
        warp_sums[0][r][place / 32] = sum_g;
        warp_sums[1][r][place / 32] = sum_gx;
      }
    }
  }
  if (!p.row_partials) return;
  const int64_t lane_stride = s.batch * s.row_blocks * s.lanes, row_stride = s.batch * s.lane_blocks * s.rows;
#pragma unroll
  for (int k = 0; k < V; ++k) {
    group_sums[0][threadIdx.x * V + k] = lane_g[k];
    group_sums[1][threadIdx.x * V + k] = lane_gx[k];
  }
  __syncthreads();
  if (active && group == 0) {
    A* sums = p.lane_partials + (sample * s.row_blocks + row_block) * s.lanes + lane;
#pragma unroll
    for (int k = 0; k < V; ++k) {
      A g = 0, gx = 0;
      for (int other = 0; other < groups; ++other) {
        g += group_sums[0][(other * across + place) * V + k];
        gx += group_sums[1][(other * across + place) * V + k];
      }
      sums[k] = g;
      sums[lane_stride + k] = gx;
    }
  }
  for (int64_t i = threadIdx.x; i < 2 * count; i += kThreads) {
    const int64_t which = i / count, r = i % count;
    A total = 0;
    for (int w = 0; w < across / 32; ++w) total += warp_sums[which][r][w];
    p.row_partials[which * row_stride + (sample * s.lane_blocks + lane_block) * s.rows + first + r] = total;
  }
}

// out[i, j] = sum over k of partials[i, k, j]: each warp of a block adds every kWarps-th for 32 of the sums, the first
// one then adds the warps', always in the same order.
template <typename A>
__global__ void __launch_bounds__(kThreads)
    sum_blocks_kernel(const A* partials, A* out, int64_t outer, int64_t blocks, int64_t inner) {
  __shared__ A warp_totals[kWarps][32];
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  const int64_t i = int64_t(blockIdx.x) * 32 + lane;
  const bool active = i < outer * inner;
  A total = 0;
  if (active) {
    const Division place = divide(i, inner);
    const A* from = partials + place.quotient * blocks * inner + place.rest;
    for (int64_t k = warp; k < blocks; k += kWarps) total += from[k * inner];
  }
  warp_totals[warp][lane] = total;
  __syncthreads();
  if (warp > 0 || !active) return;
  for (int w = 1; w < kWarps; ++w) total += warp_totals[w][lane];
  out[i] = total;
}

template <typename S>
void forward(const NoiseBiasActParams<S>& p, cudaStream_t stream) {
  constexpr int V = 16 / sizeof(S);
  const EpilogueShape& s = p.shape;
  const int64_t total = s.batch * s.rows * s.lanes;
  if (total == 0) return;
  if (s.lanes % V == 0 && is_aligned(p.x, 16) && is_aligned(p.y, 16) && terms_aligned(p.terms, 16))
    launch("noise_bias_act forward", forward_kernel<S, V>, blocks_for(total / V, kThreads), kThreads, 0, stream, p);
  else
    launch("noise_bias_act forward", forward_kernel<S, 1>, blocks_for(total, kThreads), kThreads, 0, stream, p);
}

template <typename S>
void backward(const NoiseBiasActBackwardParams<S>& p, cudaStream_t stream) {
  constexpr int V = 4;
  constexpr size_t kBytes = V * sizeof(S);
  using A = accumulate_t<S>;
  const char* what = "noise_bias_act backward";
  EpilogueShape s = p.shape;
  if (s.batch * s.rows * s.lanes == 0) return;
  // Whole warps share a row, and whole groups of threads a block.
  const bool single = s.lanes % V != 0;
  const int64_t across = s.lane_block / (single ? 1 : V);
  if (s.row_block > kMaxRowBlock || across < 32 || kThreads % across != 0 || across * (single ? 1 : V) != s.lane_block)
    throw std::runtime_error("noise_bias_act backward: bad block sizes");
  const unsigned blocks = unsigned(s.batch * s.row_blocks * s.lane_blocks);
  const bool packs = is_aligned(p.grad_y, kBytes) && is_aligned(p.y, kBytes) && is_aligned(p.x, kBytes) &&
                     is_aligned(p.grad_x, kBytes) && is_aligned(p.grad_scale_map, kBytes) &&
                     is_aligned(p.grad_shift_map, kBytes) && terms_aligned(p.terms, kBytes);
  if (single)
    launch(what, backward_kernel<S, 1, true>, blocks, kThreads, 0, stream, p);
  else if (packs)
    launch(what, backward_kernel<S, V, true>, blocks, kThreads, 0, stream, p);
  else
    launch(what, backward_kernel<S, V, false>, blocks, kThreads, 0, stream, p);
  if (!p.row_partials) return;
  launch(what, sum_blocks_kernel<A>, blocks_for(2 * s.batch * s.rows, 32), kThreads, 0, stream, p.row_partials,
         p.row_sums, 2 * s.batch, s.lane_blocks, s.rows);
  launch(what, sum_blocks_kernel<A>, blocks_for(2 * s.batch * s.lanes, 32), kThreads, 0, stream, p.lane_partials,
         p.lane_sums, 2 * s.batch, s.row_blocks, s.lanes);
}

}  // namespace

void noise_bias_act_forward(const NoiseBiasActParams<float>& p, cudaStream_t stream) { forward(p, stream); }
void noise_bias_act_forward(const NoiseBiasActParams<double>& p, cudaStream_t stream) { forward(p, stream); }
void noise_bias_act_forward(const NoiseBiasActParams<Half>& p, cudaStream_t stream) { forward(p, stream); }
void noise_bias_act_forward(const NoiseBiasActParams<BFloat16>& p, cudaStream_t stream) { forward(p, stream); }
void noise_bias_act_backward(const NoiseBiasActBackwardParams<float>& p, cudaStream_t stream) { backward(p, stream); }
void noise_bias_act_backward(const NoiseBiasActBackwardParams<double>& p, cudaStream_t stream) { backward(p, stream); }
void noise_bias_act_backward(const NoiseBiasActBackwardParams<Half>& p, cudaStream_t stream) { backward(p, stream); }
void noise_bias_act_backward(const NoiseBiasActBackwardParams<BFloat16>& p, cudaStream_t stream) {
  backward(p, stream);
}

}  // namespace cuda
}  // namespace garfast

// A thread per output, or per 16 bytes of channels in channels_last, gathers the inputs that its taps meet; neighbours
// share them through the L1 cache. Taps are read from shared memory.
#include "garfast/cuda_kernels.h"
#include "garfast/cuda_launch.h"
#include "garfast/cuda_pack.h"
#include "garfast/upfirdn2d.h"

namespace garfast {
namespace cuda {
namespace {

using baseline::fir_tap;
using baseline::tap_range;
using baseline::TapRange;

constexpr int kThreads = 256;

template <typename S, int V>
__global__ void __launch_bounds__(kThreads) upfirdn2d_kernel(Upfirdn2dParams<S> p) {
  using A = accumulate_t<S>;
  const Fir<A>& fir = p.fir;
  GARFAST_DYNAMIC_SHARED(A, taps);  // [height, width], or [width] of a separable filter
  for (int i = threadIdx.x; i < fir.width * (fir.separable ? 1 : fir.height); i += kThreads)
    taps[i] = fir.separable ? fir_tap(fir.filter, fir.width, fir.flip, i) : fir_tap(fir, i / fir.width, i % fir.width);
  __syncthreads();
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x, packs = p.inner / V;
  if (i >= p.outer * p.out_height * p.out_width * packs) return;
  const int64_t lane = i % packs * V, column = i / packs % p.out_width, row = i / (packs * p.out_width) % p.out_height,
                outer = i / (packs * p.out_width * p.out_height);
  const TapRange v = tap_range(row, fir.height, fir.up, fir.down, fir.pad_top, p.height);
  const TapRange h = tap_range(column, fir.width, fir.up, fir.down, fir.pad_left, p.width);
  A total[V];
#pragma unroll
  for (int k = 0; k < V; ++k) total[k] = A(0);
  for (int a = 0; a < v.count; ++a) {
    const S* from = p.x + ((outer * p.height + v.index + a) * p.width + h.index) * p.inner + lane;
    const int at = v.tap + a * fir.up;
    const A row_tap = fir.separable ? taps[at] : A(1);
    const A* row_taps = fir.separable ? taps : taps + at * fir.width;
    for (int b = 0; b < h.count; ++b) {
      A x[V];
      load_pack<V, true>(from + b * p.inner, x);
      const A weight = row_tap * row_taps[h.tap + b * fir.up];
#pragma unroll
      for (int k = 0; k < V; ++k) total[k] += weight * x[k];
    }
  }
#pragma unroll
  for (int k = 0; k < V; ++k) total[k] *= fir.gain;
  store_pack<V, true>(total, p.y + ((outer * p.out_height + row) * p.out_width + column) * p.inner + lane);
}

template <typename S>
void run(const Upfirdn2dParams<S>& p, cudaStream_t stream) {
  constexpr int V = 16 / sizeof(S);
  const int64_t total = p.outer * p.out_height * p.out_width * p.inner;
  if (total == 0) return;
  const size_t shared = sizeof(accumulate_t<S>) * p.fir.width * (p.fir.separable ? 1 : p.fir.height);
  if (p.inner % V == 0 && is_aligned(p.x, 16) && is_aligned(p.y, 16))
    launch("upfirdn2d", upfirdn2d_kernel<S, V>, blocks_for(total / V, kThreads), kThreads, shared, stream, p);
  else
    launch("upfirdn2d", upfirdn2d_kernel<S, 1>, blocks_for(total, kThreads), kThreads, shared, stream, p);
}

}  // namespace

void upfirdn2d(const Upfirdn2dParams<float>& p, cudaStream_t stream) { run(p, stream); }
void upfirdn2d(const Upfirdn2dParams<double>& p, cudaStream_t stream) { run(p, stream); }
void upfirdn2d(const Upfirdn2dParams<Half>& p, cudaStream_t stream) { run(p, stream); }
void upfirdn2d(const Upfirdn2dParams<BFloat16>& p, cudaStream_t stream) { run(p, stream); }

}  // namespace cuda
}  // namespace garfast

// Blur and epilogue: a thread makes a strip of outputs, as in upfirdn2d.cu.
#include "garfast/cuda_epilogue.h"
#include "garfast/cuda_fir.h"
#include "garfast/cuda_index.h"
#include "garfast/cuda_kernels.h"
#include "garfast/cuda_launch.h"
#include "garfast/modulated_conv2d.h"

namespace garfast {
namespace cuda {
namespace {

using baseline::activate;

constexpr int kThreads = 256;

template <typename S, int V, typename F>
__global__ void __launch_bounds__(kThreads) blur_epilogue_kernel(BlurEpilogueParams<S> p) {
  using A = accumulate_t<S>;
  const Upfirdn2dParams<S>& b = p.blur;
  GARFAST_DYNAMIC_SHARED(A, taps);
  load_taps(b.fir, taps);
  __syncthreads();
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= strips<V, F::kRows>(b)) return;
  const Strip s = strip_at<V, F::kRows>(b, i);
  A f[F::kRows][V];
  F::template apply<V>(b, taps, s.outer, s.row, s.column, s.lane, f);
  const bool last = p.shape.channels_last;
  const Division map = last ? Division{s.outer, s.lane} : divide(s.outer, p.shape.channels);
  const int64_t sample = map.quotient, channel = map.rest;
#pragma unroll
  for (int r = 0; r < F::kRows; ++r) {
    if (s.row + r >= b.out_height) break;
    const int64_t pixel = (s.row + r) * b.out_width + s.column;
    const int64_t row = last ? pixel : channel, lane = last ? channel : pixel,
                  offset = (sample * p.shape.rows + row) * p.shape.lanes + lane;
    A y[V], scale[V], shift[V];
    element_terms<V>(p.shape, p.terms, sample, row, lane, scale, shift);
#pragma unroll
    for (int k = 0; k < V; ++k)
      y[k] = activate(f[r][k] * scale[k] + shift[k], p.terms.alpha, p.terms.gain, p.terms.clamp);
    store_pack<V, true>(y, p.y + offset);
    if (b.y) store_pack<V, true>(f[r], b.y + offset);
  }
}

template <typename F, typename S>
void run_with(const BlurEpilogueParams<S>& p, cudaStream_t stream) {
  constexpr int V = 16 / sizeof(S);
  const Upfirdn2dParams<S>& b = p.blur;
  const size_t shared = taps_bytes(b.fir);
  if (b.inner % V == 0 && is_aligned(b.x, 16) && is_aligned(b.y, 16) && is_aligned(p.y, 16) &&
      terms_aligned(p.terms, 16))
    launch("blur_epilogue", blur_epilogue_kernel<S, V, F>, blocks_for(strips<V, F::kRows>(b), kThreads), kThreads,
           shared, stream, p);
  else
    launch("blur_epilogue", blur_epilogue_kernel<S, 1, F>, blocks_for(strips<1, F::kRows>(b), kThreads), kThreads,
           shared, stream, p);
}

template <typename S>
void run(const BlurEpilogueParams<S>& p, cudaStream_t stream) {
  const Fir<accumulate_t<S>>& fir = p.blur.fir;
  if (p.blur.outer * p.blur.out_height * p.blur.out_width * p.blur.inner == 0) return;
  if (has_four_taps(fir) && fir.up == 1 && fir.down == 1)
    run_with<FourTaps<1, 1, 0>>(p, stream);
  else
    run_with<AnyFilter>(p, stream);
}

}  // namespace

void blur_epilogue(const BlurEpilogueParams<float>& p, cudaStream_t stream) { run(p, stream); }
void blur_epilogue(const BlurEpilogueParams<double>& p, cudaStream_t stream) { run(p, stream); }
void blur_epilogue(const BlurEpilogueParams<Half>& p, cudaStream_t stream) { run(p, stream); }
void blur_epilogue(const BlurEpilogueParams<BFloat16>& p, cudaStream_t stream) { run(p, stream); }

}  // namespace cuda
}  // namespace garfast

// Blur and epilogue: a thread per output, or per 16 bytes of channels in channels_last, as in upfirdn2d.cu.
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

template <typename S, int V>
__global__ void __launch_bounds__(kThreads) blur_epilogue_kernel(BlurEpilogueParams<S> p) {
  using A = accumulate_t<S>;
  const Upfirdn2dParams<S>& b = p.blur;
  GARFAST_DYNAMIC_SHARED(A, taps);
  load_taps(b.fir, taps);
  __syncthreads();
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x, packs = b.inner / V;
  if (i >= b.outer * b.out_height * b.out_width * packs) return;
  const Division pack = divide(i, packs), image = divide(pack.quotient, p.shape.pixels),
                 place = divide(image.rest, b.out_width);
  const int64_t first = pack.rest * V, pixel = image.rest, outer = image.quotient;
  A f[V];
  fir_at<V>(b, taps, outer, place.quotient, place.rest, first, f);
  const bool last = p.shape.channels_last;
  const Division map = last ? Division{outer, first} : divide(outer, p.shape.channels);
  const int64_t sample = map.quotient, channel = map.rest;
  const int64_t row = last ? pixel : channel, lane = last ? channel : pixel, within = row * p.shape.lanes + lane,
                offset = sample * p.shape.rows * p.shape.lanes + within;
  A y[V], scale[V], shift[V];
  element_terms<V>(p.shape, p.terms, sample, row, lane, scale, shift);
#pragma unroll
  for (int k = 0; k < V; ++k) y[k] = activate(f[k] * scale[k] + shift[k], p.terms.alpha, p.terms.gain, p.terms.clamp);
  store_pack<V, true>(y, p.y + offset);
  if (b.y) store_pack<V, true>(f, b.y + offset);
}

template <typename S>
void run(const BlurEpilogueParams<S>& p, cudaStream_t stream) {
  constexpr int V = 16 / sizeof(S);
  const Upfirdn2dParams<S>& b = p.blur;
  const int64_t total = b.outer * b.out_height * b.out_width * b.inner;
  if (total == 0) return;
  const size_t shared = taps_bytes(b.fir);
  if (b.inner % V == 0 && is_aligned(b.x, 16) && is_aligned(b.y, 16) && is_aligned(p.y, 16) &&
      maps_aligned(p.terms, 16))
    launch("blur_epilogue", blur_epilogue_kernel<S, V>, blocks_for(total / V, kThreads), kThreads, shared, stream, p);
  else
    launch("blur_epilogue", blur_epilogue_kernel<S, 1>, blocks_for(total, kThreads), kThreads, shared, stream, p);
}

}  // namespace

void blur_epilogue(const BlurEpilogueParams<float>& p, cudaStream_t stream) { run(p, stream); }
void blur_epilogue(const BlurEpilogueParams<double>& p, cudaStream_t stream) { run(p, stream); }
void blur_epilogue(const BlurEpilogueParams<Half>& p, cudaStream_t stream) { run(p, stream); }
void blur_epilogue(const BlurEpilogueParams<BFloat16>& p, cudaStream_t stream) { run(p, stream); }

}  // namespace cuda
}  // namespace garfast

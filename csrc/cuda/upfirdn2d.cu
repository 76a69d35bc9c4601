// A thread per output, or per 16 bytes of channels in channels_last, gathers the inputs that its taps meet; neighbours
// share them through the L1 cache. Taps are read from shared memory.
#include "garfast/cuda_fir.h"
#include "garfast/cuda_index.h"
#include "garfast/cuda_kernels.h"
#include "garfast/cuda_launch.h"
#include "garfast/upfirdn2d.h"

namespace garfast {
namespace cuda {
namespace {

constexpr int kThreads = 256;

template <typename S, int V>
__global__ void __launch_bounds__(kThreads) upfirdn2d_kernel(Upfirdn2dParams<S> p) {
  using A = accumulate_t<S>;
  GARFAST_DYNAMIC_SHARED(A, taps);
  load_taps(p.fir, taps);
  __syncthreads();
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x, packs = p.inner / V;
  if (i >= p.outer * p.out_height * p.out_width * packs) return;
  const Division pack = divide(i, packs), pixel = divide(pack.quotient, p.out_width),
                 image = divide(pixel.quotient, p.out_height);
  const int64_t lane = pack.rest * V, column = pixel.rest, row = image.rest, outer = image.quotient;
  A total[V];
  fir_at<V>(p, taps, outer, row, column, lane, total);
  store_pack<V, true>(total, p.y + ((outer * p.out_height + row) * p.out_width + column) * p.inner + lane);
}

template <typename S>
void run(const Upfirdn2dParams<S>& p, cudaStream_t stream) {
  constexpr int V = 16 / sizeof(S);
  const int64_t total = p.outer * p.out_height * p.out_width * p.inner;
  if (total == 0) return;
  const size_t shared = taps_bytes(p.fir);
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

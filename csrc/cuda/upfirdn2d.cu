// A thread makes a strip of outputs below one another (see cuda_fir.h), of 16 bytes of channels in channels_last.
#include "garfast/cuda_fir.h"
#include "garfast/cuda_kernels.h"
#include "garfast/cuda_launch.h"
#include "garfast/upfirdn2d.h"

namespace garfast {
namespace cuda {
namespace {

constexpr int kThreads = 256;

template <typename S, int V, typename F>
__global__ void __launch_bounds__(kThreads) upfirdn2d_kernel(Upfirdn2dParams<S> p) {
  using A = accumulate_t<S>;
  GARFAST_DYNAMIC_SHARED(A, taps);
  load_taps(p.fir, taps);
  __syncthreads();
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= strips<V, F::kRows>(p)) return;
  const Strip s = strip_at<V, F::kRows>(p, i);
  A total[F::kRows][V];
  F::template apply<V>(p, taps, s.outer, s.row, s.column, s.lane, total);
#pragma unroll
  for (int r = 0; r < F::kRows; ++r)
    if (s.row + r < p.out_height)
      store_pack<V, true>(total[r],
                          p.y + ((s.outer * p.out_height + s.row + r) * p.out_width + s.column) * p.inner + s.lane);
}

template <typename F, typename S>
void run_with(const Upfirdn2dParams<S>& p, cudaStream_t stream) {
  constexpr int V = 16 / sizeof(S);
  const size_t shared = taps_bytes(p.fir);
  if (p.inner % V == 0 && is_aligned(p.x, 16) && is_aligned(p.y, 16))
    launch("upfirdn2d", upfirdn2d_kernel<S, V, F>, blocks_for(strips<V, F::kRows>(p), kThreads), kThreads, shared,
           stream, p);
  else
    launch("upfirdn2d", upfirdn2d_kernel<S, 1, F>, blocks_for(strips<1, F::kRows>(p), kThreads), kThreads, shared,
           stream, p);
}

template <typename S>
void run(const Upfirdn2dParams<S>& p, cudaStream_t stream) {
  const Fir<accumulate_t<S>>& fir = p.fir;
  if (p.outer * p.out_height * p.out_width * p.inner == 0) return;
  if (has_four_taps(fir) && fir.up == 1 && fir.down == 1)
    run_with<FourTaps<1, 1, 0>>(p, stream);
  else if (has_four_taps(fir) && fir.up == 1 && fir.down == 2)
    run_with<FourTaps<1, 2, 0>>(p, stream);
  else if (has_four_taps(fir) && fir.up == 2 && fir.down == 1 && fir.pad_top % 2 == 0)
    run_with<FourTaps<2, 1, 0>>(p, stream);
  else if (has_four_taps(fir) && fir.up == 2 && fir.down == 1)
    run_with<FourTaps<2, 1, 1>>(p, stream);
  else
    run_with<AnyFilter>(p, stream);
}

}  // namespace

void upfirdn2d(const Upfirdn2dParams<float>& p, cudaStream_t stream) { run(p, stream); }
void upfirdn2d(const Upfirdn2dParams<double>& p, cudaStream_t stream) { run(p, stream); }
void upfirdn2d(const Upfirdn2dParams<Half>& p, cudaStream_t stream) { run(p, stream); }
void upfirdn2d(const Upfirdn2dParams<BFloat16>& p, cudaStream_t stream) { run(p, stream); }

}  // namespace cuda
}  // namespace garfast

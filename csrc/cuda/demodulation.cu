// A block per output channel: its weights are read once, for all samples, and their squares are summed on the way. One
// launch instead of the seven that squares, sums, a matrix product, eps and root take; a renderer at batch 1 waits for
// launches more than for anything else.
#include "garfast/cuda_kernels.h"
#include "garfast/cuda_launch.h"
#include "garfast/cuda_warp.h"
#include "garfast/demodulation.h"

namespace garfast {
namespace cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kSamples = 8;  // in registers at a time

__device__ float inverse_root(float x) { return rsqrtf(x); }
__device__ double inverse_root(double x) { return rsqrt(x); }

template <typename S>
__global__ void __launch_bounds__(kThreads) demodulation_kernel(DemodulationParams<S> p) {
  using A = accumulate_t<S>;
  __shared__ A warp_sums[kSamples][kWarps];
  const int64_t output = blockIdx.x;
  const S* weight = p.weight + output * p.inputs * p.taps;
  A* norms = p.norms + output * p.inputs;
  for (int64_t first = 0; first == 0 || first < p.batch; first += kSamples) {
    A total[kSamples];
#pragma unroll
    for (int k = 0; k < kSamples; ++k) total[k] = A(0);
    for (int64_t i = threadIdx.x; i < p.inputs; i += kThreads) {
      A norm = 0;
      if (first == 0) {
        for (int64_t t = 0; t < p.taps; ++t) {
          const A w = baseline::widen(weight[i * p.input_stride + t * p.tap_stride]);
          norm += w * w;
        }
        norms[i] = norm;
      } else {
        norm = norms[i];  // this thread's own
      }
#pragma unroll
      for (int k = 0; k < kSamples; ++k) {
        if (first + k >= p.batch) continue;
        const A s = p.style[(first + k) * p.inputs + i];
        total[k] += s * s * norm;
      }
    }
#pragma unroll
    for (int k = 0; k < kSamples; ++k) {
      const A sum = warp_sum(total[k]);
      if (threadIdx.x % 32 == 0) warp_sums[k][threadIdx.x / 32] = sum;
    }
    __syncthreads();
    const int k = int(threadIdx.x);
    if (k < kSamples && first + k < p.batch) {
      A sum = p.eps;
      for (int w = 0; w < kWarps; ++w) sum += warp_sums[k][w];
      p.d[(first + k) * p.outputs + output] = inverse_root(sum);
    }
    __syncthreads();  // the next samples overwrite the sums
  }
}

template <typename S>
void run(const DemodulationParams<S>& p, cudaStream_t stream) {
  if (p.outputs == 0) return;
  launch("demodulation", demodulation_kernel<S>, unsigned(p.outputs), kThreads, 0, stream, p);
}

}  // namespace

void demodulation(const DemodulationParams<float>& p, cudaStream_t stream) { run(p, stream); }
void demodulation(const DemodulationParams<double>& p, cudaStream_t stream) { run(p, stream); }
void demodulation(const DemodulationParams<Half>& p, cudaStream_t stream) { run(p, stream); }
void demodulation(const DemodulationParams<BFloat16>& p, cudaStream_t stream) { run(p, stream); }

}  // namespace cuda
}  // namespace garfast

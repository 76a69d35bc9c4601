// One output of an up-/down-sampling filter on the device, for upfirdn2d and for what fuses it.
#pragma once

#include "garfast/cuda_pack.h"
#include "garfast/upfirdn2d.h"

namespace garfast {
namespace cuda {

template <typename A>
size_t taps_bytes(const Fir<A>& fir) {
  return sizeof(A) * fir.width * (fir.separable ? 1 : fir.height);
}

// The taps in order into shared memory: [height, width], or [width] of a separable filter. A barrier must follow.
template <typename A>
__device__ void load_taps(const Fir<A>& fir, A* taps) {
  for (int i = threadIdx.x; i < fir.width * (fir.separable ? 1 : fir.height); i += blockDim.x)
    taps[i] = fir.separable ? baseline::fir_tap(fir.filter, fir.width, fir.flip, i)
                            : baseline::fir_tap(fir, i / fir.width, i % fir.width);
}

// The filter at one pixel, V lanes of `inner`.
template <int V, typename S, typename A>
__device__ void fir_at(const Upfirdn2dParams<S>& p, const A* taps, int64_t outer, int64_t row, int64_t column,
                       int64_t lane, A* out) {
  const Fir<A>& fir = p.fir;
  const baseline::TapRange v = baseline::tap_range(row, fir.height, fir.up, fir.down, fir.pad_top, p.height);
  const baseline::TapRange h = baseline::tap_range(column, fir.width, fir.up, fir.down, fir.pad_left, p.width);
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
  for (int k = 0; k < V; ++k) out[k] = total[k] * fir.gain;
}

}  // namespace cuda
}  // namespace garfast

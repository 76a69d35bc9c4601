// Outputs of an up-/down-sampling filter on the device, for upfirdn2d and for what fuses it.
//
// AnyFilter and FourTaps<...> are two ways for a thread to make kRows outputs, one below the other. Gathering every tap
// of every output, as AnyFilter does, keeps the load units busier than the memory: 32 loads an output for 4x4 taps,
// inputs and taps alike. The networks' filters are separable with four taps, and for these a thread weighs each row it
// meets once, for all outputs below one another that need it, with the taps in registers: 7 loads an output.
#pragma once

#include "garfast/cuda_index.h"
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

struct AnyFilter {
  static constexpr int kRows = 1;

  // The filter at one pixel, V lanes of `inner`.
  template <int V, typename S, typename A>
  static __device__ void apply(const Upfirdn2dParams<S>& p, const A* taps, int64_t outer, int64_t row, int64_t column,
                               int64_t lane, A (*out)[V]) {
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
    for (int k = 0; k < V; ++k) out[0][k] = total[k] * fir.gain;
  }
};

// Separable, four taps; the first of the rows is a multiple of kRows. Phase: the tap of that row which meets its first
// input, 0 without up-sampling and else the padding's parity.
template <int Up, int Down, int Phase>
struct FourTaps {
  static_assert(Up == 1 || (Up == 2 && Down == 1), "");
  static_assert(Phase >= 0 && Phase < Up, "");
  static constexpr int kRows = 4, kTaps = 4, kAcross = kTaps / Up;
  static constexpr int kInputs = ((kRows - 1) * Down + kTaps - 1 - Phase) / Up + 1;

  // The filter at kRows pixels below one another, V lanes of `inner`; what lies below the image may be anything.
  template <int V, typename S, typename A>
  static __device__ void apply(const Upfirdn2dParams<S>& p, const A* taps, int64_t outer, int64_t row, int64_t column,
                               int64_t lane, A (*out)[V]) {
    A t[kTaps], across[kAcross];
#pragma unroll
    for (int j = 0; j < kTaps; ++j) t[j] = taps[j];
    const int64_t left = column * Down - p.fir.pad_left, odd = Up == 2 ? left & 1 : 0;
#pragma unroll
    for (int b = 0; b < kAcross; ++b) across[b] = odd ? t[(b * Up + 1) % kTaps] : t[b * Up];
    const int64_t first_column = (left + odd) / Up, first_row = (row * Down - p.fir.pad_top + Phase) / Up;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int k = 0; k < V; ++k) out[r][k] = A(0);
#pragma unroll
    for (int n = 0; n < kInputs; ++n) {
      const int64_t i = first_row + n;
      if (i < 0 || i >= p.height) continue;
      const S* from = p.x + (outer * p.height + i) * p.width * p.inner + lane;
      A weighed[V];
#pragma unroll
      for (int k = 0; k < V; ++k) weighed[k] = A(0);
#pragma unroll
      for (int b = 0; b < kAcross; ++b) {
        const int64_t at = first_column + b;
        if (at < 0 || at >= p.width) continue;
        A x[V];
        load_pack<V, true>(from + at * p.inner, x);
#pragma unroll
        for (int k = 0; k < V; ++k) weighed[k] += across[b] * x[k];
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int tap = Phase + n * Up - r * Down;
        if (tap < 0 || tap >= kTaps) continue;
#pragma unroll
        for (int k = 0; k < V; ++k) out[r][k] += t[tap] * weighed[k];
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int k = 0; k < V; ++k) out[r][k] *= p.fir.gain;
  }
};

template <typename A>
bool has_four_taps(const Fir<A>& fir) {
  return fir.separable && fir.width == 4;
}

// Where a thread's outputs are: V lanes of `inner` from `lane` on, at `column` of `kRows` rows from `row` on.
struct Strip {
  int64_t outer, row, column, lane;
};

// The i-th strip of an output, neighbours in memory first.
template <int V, int kRows, typename S>
__device__ Strip strip_at(const Upfirdn2dParams<S>& p, int64_t i) {
  const Division pack = divide(i, p.inner / V), place = divide(pack.quotient, p.out_width),
                 image = divide(place.quotient, (p.out_height + kRows - 1) / kRows);
  return {image.quotient, image.rest * kRows, place.rest, pack.rest * V};
}

template <int V, int kRows, typename S>
GARFAST_HD int64_t strips(const Upfirdn2dParams<S>& p) {
  return p.outer * ((p.out_height + kRows - 1) / kRows) * p.out_width * (p.inner / V);
}

}  // namespace cuda
}  // namespace garfast

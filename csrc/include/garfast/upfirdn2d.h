// Up-sample by inserting zeros, pad (or crop), filter, keep every `down`-th: in each direction
//     y[o] = gain * sum_j tap[j] z[o * down + j],   z[i] = x[(i - pad) / up] where that is a whole number inside x,
//     else 0
// with the taps in reverse order of the filter (a convolution), or in its order if `flip`.
// Both layouts are [outer, H, W, inner]: outer = B C, inner = 1 for [B, C, H, W]; outer = B, inner = C for
// channels_last.
#pragma once

#include <cstdint>

#include "garfast/isa.h"
#include "garfast/scalar.h"

namespace garfast {

template <typename A>
struct Fir {
  const A* filter;  // [height, width], or [width] if separable: the outer product with itself
  int height, width;
  bool separable, flip;
  int up, down;
  int64_t pad_left, pad_top;  // negative: crop
  A gain;
};

template <typename S>
struct Upfirdn2dParams {
  Fir<accumulate_t<S>> fir;
  const S* x;  // [outer, height, width, inner]
  S* y;        // [outer, out_height, out_width, inner] out
  int64_t outer, height, width, inner, out_height, out_width;
  int num_threads;
};

GARFAST_DECLARE_CPU(upfirdn2d, Upfirdn2dParams<float>)
GARFAST_DECLARE_CPU(upfirdn2d, Upfirdn2dParams<double>)
GARFAST_DECLARE_CPU(upfirdn2d, Upfirdn2dParams<Half>)
GARFAST_DECLARE_CPU(upfirdn2d, Upfirdn2dParams<BFloat16>)

}  // namespace garfast

GARFAST_MATH_BEGIN

// The taps of one output that meet inputs: tap, tap + up, ... up to `count` of them, at input index, index + 1, ...
struct TapRange {
  int tap;
  int64_t index;
  int count;
};

GARFAST_HD TapRange tap_range(int64_t out, int taps, int up, int down, int64_t pad, int64_t size) {
  const int64_t base = out * down - pad;
  if (up == 1) {  // without the divisions, which would be most of a thread's work on a GPU
    const int64_t tap = base < 0 ? -base : 0, index = base + tap, most = size - index;
    const int64_t count = taps - tap < most ? taps - tap : most;
    return {int(tap < taps ? tap : taps), index, int(count > 0 ? count : 0)};
  }
  const int64_t residue = base % up;  // of either sign
  int64_t tap = residue > 0 ? up - residue : -residue;
  int64_t index = (base + tap) / up;
  if (index < 0) {
    tap -= index * up;
    index = 0;
  }
  int64_t count = tap < taps ? (taps - tap + up - 1) / up : 0;
  if (count > size - index) count = size - index;
  return {int(tap), index, int(count > 0 ? count : 0)};
}

// Tap j of n along one direction of a separable filter.
template <typename A>
GARFAST_HD A fir_tap(const A* filter, int n, bool flip, int j) {
  return filter[flip ? j : n - 1 - j];
}

// Tap (i, j) of a two-dimensional filter.
template <typename A>
GARFAST_HD A fir_tap(const Fir<A>& fir, int i, int j) {
  return fir.filter[(fir.flip ? i : fir.height - 1 - i) * fir.width + (fir.flip ? j : fir.width - 1 - j)];
}

GARFAST_MATH_END

// The argument lists that garfast._cpu and garfast._cuda share for upfirdn2d.
#pragma once

#include <tuple>

#include "garfast/upfirdn2d.h"
#include "pointers.h"

namespace garfast {

// filter, height, width, separable, flip, up, down, pad_left, pad_top, gain
using FirArgs = std::tuple<std::uintptr_t, int, int, bool, bool, int, int, int64_t, int64_t, double>;
// outer, height, width, inner, out_height, out_width
using Upfirdn2dSizes = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;

template <typename A>
Fir<A> fir(const FirArgs& a) {
  const auto [filter, height, width, separable, flip, up, down, pad_left, pad_top, gain] = a;
  return {in<A>(filter), height, width, separable, flip, up, down, pad_left, pad_top, A(gain)};
}

template <typename S>
Upfirdn2dParams<S> upfirdn2d_params(const FirArgs& a, const Upfirdn2dSizes& sizes, std::uintptr_t x, std::uintptr_t y) {
  const auto [outer, height, width, inner, out_height, out_width] = sizes;
  return {fir<accumulate_t<S>>(a), in<S>(x), out<S>(y), outer, height, width, inner, out_height, out_width, 1};
}

}  // namespace garfast

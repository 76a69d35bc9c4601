// The argument lists that garfast._cpu and garfast._cuda share for noise_bias_act.
#pragma once

#include <tuple>

#include "garfast/noise_bias_act.h"
#include "pointers.h"

namespace garfast {

// batch, channels, pixels, channels_last, row_block, lane_block
using ShapeArgs = std::tuple<int64_t, int64_t, int64_t, bool, int64_t, int64_t>;
// scale_channel; scale_map, its batch stride, per element; shift_map, the same; noise, its batch stride; strength;
// bias; alpha, gain, clamp
using TermArgs = std::tuple<Address, Address, int64_t, bool, Address, int64_t, bool, Address, int64_t, Address, Address,
                            double, double, double>;

inline EpilogueShape epilogue_shape(const ShapeArgs& a) {
  const auto [batch, channels, pixels, channels_last, row_block, lane_block] = a;
  const int64_t rows = channels_last ? pixels : channels, lanes = channels_last ? channels : pixels;
  return {batch,
          channels,
          pixels,
          channels_last,
          rows,
          lanes,
          row_block,
          lane_block,
          (rows + row_block - 1) / row_block,
          (lanes + lane_block - 1) / lane_block};
}

template <typename S>
EpilogueTerms<S> epilogue_terms(const TermArgs& a) {
  using A = accumulate_t<S>;
  return {in<A>(std::get<0>(a)),
          {in<S>(std::get<1>(a)), std::get<2>(a), std::get<3>(a)},
          {in<S>(std::get<4>(a)), std::get<5>(a), std::get<6>(a)},
          {in<S>(std::get<7>(a)), std::get<8>(a), false},
          in<A>(std::get<9>(a)),
          in<A>(std::get<10>(a)),
          A(std::get<11>(a)),
          A(std::get<12>(a)),
          A(std::get<13>(a))};
}

template <typename S>
NoiseBiasActParams<S> noise_bias_act_params(const ShapeArgs& shape, const TermArgs& terms, Address x, Address y) {
  return {epilogue_shape(shape), epilogue_terms<S>(terms), in<S>(x), out<S>(y), 1};
}

template <typename S>
NoiseBiasActBackwardParams<S> noise_bias_act_backward_params(const ShapeArgs& shape, const TermArgs& terms,
                                                             Address grad_y, Address y, Address x, Address grad_x,
                                                             Address grad_scale_map, Address grad_shift_map,
                                                             Address row_partials, Address lane_partials,
                                                             Address row_sums, Address lane_sums,
                                                             Address strength_sum = 0) {
  using A = accumulate_t<S>;
  return {epilogue_shape(shape),
          epilogue_terms<S>(terms),
          in<S>(grad_y),
          in<S>(y),
          in<S>(x),
          out<S>(grad_x),
          out<S>(grad_scale_map),
          out<S>(grad_shift_map),
          out<A>(row_partials),
          out<A>(lane_partials),
          out<A>(row_sums),
          out<A>(lane_sums),
          out<A>(strength_sum),
          1};
}

}  // namespace garfast

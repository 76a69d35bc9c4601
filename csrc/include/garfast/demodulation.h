// d[b, o] = rsqrt(sum_i style[b, i]^2 norms[o, i] + eps), norms[o, i] the sum of the squared taps of weight[o, i]: what
// a modulated convolution's results are divided by (METHOD equation 1).
#pragma once

#include <cstdint>

#include "garfast/scalar.h"

namespace garfast {

template <typename S>
struct DemodulationParams {
  using A = accumulate_t<S>;
  const S* weight;  // [outputs, inputs, taps] or [outputs, taps, inputs], as the strides say
  int64_t input_stride, tap_stride;
  const A* style;  // [batch, inputs]
  A* d;            // [batch, outputs] out
  A* norms;        // [outputs, inputs] out
  int64_t batch, outputs, inputs, taps;
  A eps;
};

}  // namespace garfast

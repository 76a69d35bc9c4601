// y = clamp(act(x * d * m + t + strength * noise + bias) * gain) over x [B, C, H, W]: d per sample and channel, m and t
// per pixel (or per element), noise per pixel, bias per channel; every term may be absent.
//
// Seen as `rows` of `lanes` the two memory layouts are one problem: rows are channels and lanes pixels in [B, C, H, W],
// rows are pixels and lanes channels in channels_last. A term is constant along one of the two, so
//     v[row, lane] = x[row, lane] * (row_scale[row] * lane_scale[lane]) + (row_shift[row] + lane_shift[lane])
// and every gradient that is a sum runs along one of them. act is leaky ReLU with slope `alpha` (1: linear, 0: ReLU),
// so that the sign of y is the sign of v and the backward needs y alone, x only for the gradients of d and m.
#pragma once

#include <cmath>
#include <cstdint>

#include "garfast/isa.h"
#include "garfast/scalar.h"

namespace garfast {

// A map [B, 1, H, W], or [B, C, H, W] in the layout of x.
template <typename S>
struct Map {
  const S* data;         // null: absent
  int64_t batch_stride;  // elements between samples; 0: one for all
  bool per_element;      // [B, C, H, W]
};

template <typename S>
struct EpilogueTerms {
  using A = accumulate_t<S>;
  const A* scale_channel;  // d [B, C], or null
  Map<S> scale_map;        // m
  Map<S> shift_map;        // t
  Map<S> noise;            // [B, 1, H, W]
  const A* strength;       // one number, or null for 1
  const A* bias;           // [C], or null
  A alpha, gain, clamp;    // clamp: NaN for none
};

struct EpilogueShape {
  int64_t batch, channels, pixels;
  bool channels_last;
  int64_t rows, lanes;
  // A task is a block of rows by lanes; the reductions are summed per block, then over blocks in order, so that they do
  // not depend on the number of threads.
  int64_t row_block, lane_block;
  int64_t row_blocks, lane_blocks;
};

template <typename S>
struct NoiseBiasActParams {
  EpilogueShape shape;
  EpilogueTerms<S> terms;
  const S* x;  // [B, rows, lanes]
  S* y;        // [B, rows, lanes] out
  int num_threads;
};

// With g = grad_y * dy/dv: grad_x = g d m, and the sums of g and of g d m x / (the term in question).
template <typename S>
struct NoiseBiasActBackwardParams {
  using A = accumulate_t<S>;
  EpilogueShape shape;
  EpilogueTerms<S> terms;
  const S* grad_y;    // [B, rows, lanes]
  const S* y;         // [B, rows, lanes] of the forward
  const S* x;         // [B, rows, lanes], or null: the sums with x are not wanted
  S* grad_x;          // [B, rows, lanes] out, or null
  S* grad_scale_map;  // [B, rows, lanes] out, or null: g d x
  S* grad_shift_map;  // [B, rows, lanes] out, or null: g
  A* row_partials;    // [2, B, lane_blocks, rows] scratch, or null: no sums are wanted
  A* lane_partials;   // [2, B, row_blocks, lanes] scratch
  A* row_sums;        // [2, B, rows] out: the sums over lanes of g and of g lane_scale x
  A* lane_sums;       // [2, B, lanes] out: the sums over rows of g and of g row_scale x
  A* strength_sum;    // [1] out, or null: the sum of g noise
  int num_threads;
};

GARFAST_DECLARE_CPU(noise_bias_act_forward, NoiseBiasActParams<float>)
GARFAST_DECLARE_CPU(noise_bias_act_forward, NoiseBiasActParams<double>)
GARFAST_DECLARE_CPU(noise_bias_act_forward, NoiseBiasActParams<Half>)
GARFAST_DECLARE_CPU(noise_bias_act_forward, NoiseBiasActParams<BFloat16>)
GARFAST_DECLARE_CPU(noise_bias_act_backward, NoiseBiasActBackwardParams<float>)
GARFAST_DECLARE_CPU(noise_bias_act_backward, NoiseBiasActBackwardParams<double>)
GARFAST_DECLARE_CPU(noise_bias_act_backward, NoiseBiasActBackwardParams<Half>)
GARFAST_DECLARE_CPU(noise_bias_act_backward, NoiseBiasActBackwardParams<BFloat16>)

}  // namespace garfast

GARFAST_MATH_BEGIN

// clamp(act(v) * gain); NaN passes through, and a NaN clamp compares false, which is no clamp.
template <typename A>
GARFAST_HD A activate(A v, A alpha, A gain, A clamp) {
  const A a = (v > A(0) ? v : v * alpha) * gain;
  return a > clamp ? clamp : a < -clamp ? -clamp : a;
}

// dy/dv from y alone.
template <typename A>
GARFAST_HD A activation_slope(A y, A alpha, A gain, A clamp) {
  const A slope = y > A(0) ? gain : gain * alpha;
  return std::fabs(y) >= clamp ? A(0) : slope;
}

// The factor of a pixel: m.
template <typename S>
GARFAST_HD accumulate_t<S> pixel_scale(const EpilogueTerms<S>& t, int64_t sample, int64_t pixel) {
  const Map<S>& m = t.scale_map;
  return m.data && !m.per_element ? widen(m.data[sample * m.batch_stride + pixel]) : accumulate_t<S>(1);
}

// The addend of a pixel: t + strength * noise.
template <typename S>
GARFAST_HD accumulate_t<S> pixel_shift(const EpilogueTerms<S>& t, int64_t sample, int64_t pixel) {
  using A = accumulate_t<S>;
  const Map<S>& m = t.shift_map;
  A shift = m.data && !m.per_element ? widen(m.data[sample * m.batch_stride + pixel]) : A(0);
  if (t.noise.data)
    shift += (t.strength ? *t.strength : A(1)) * widen(t.noise.data[sample * t.noise.batch_stride + pixel]);
  return shift;
}

// The factor of a channel: d.
template <typename S>
GARFAST_HD accumulate_t<S> channel_scale(const EpilogueTerms<S>& t, int64_t channels, int64_t sample, int64_t channel) {
  return t.scale_channel ? t.scale_channel[sample * channels + channel] : accumulate_t<S>(1);
}

// The addend of a channel: its bias.
template <typename S>
GARFAST_HD accumulate_t<S> channel_shift(const EpilogueTerms<S>& t, int64_t channel) {
  return t.bias ? t.bias[channel] : accumulate_t<S>(0);
}

GARFAST_MATH_END

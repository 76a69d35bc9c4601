// The terms of the epilogue as the CPU kernels use them: one number per row and one per lane (see noise_bias_act.h).
#pragma once

#include "garfast/noise_bias_act.h"
#include "rows.h"

namespace garfast {
namespace GARFAST_ISA {

template <typename A>
struct RowTerms {
  A scale, shift;
};

// m and t + strength * noise at `n` pixels; per-element maps are left to the rows.
template <typename S, typename A>
inline void pixel_terms(const EpilogueTerms<S>& t, int64_t sample, int64_t pixel, int64_t n, A* scale, A* shift) {
  for (int64_t i = 0; i < n; ++i) scale[i] = A(1), shift[i] = A(0);
  if (t.scale_map.data && !t.scale_map.per_element) {
    const S* m = t.scale_map.data + sample * t.scale_map.batch_stride + pixel;
    for (int64_t i = 0; i < n; ++i) scale[i] = widen(m[i]);
  }
  if (t.shift_map.data && !t.shift_map.per_element) {
    const S* m = t.shift_map.data + sample * t.shift_map.batch_stride + pixel;
    for (int64_t i = 0; i < n; ++i) shift[i] = widen(m[i]);
  }
  if (t.noise.data) {
    const S* noise = t.noise.data + sample * t.noise.batch_stride + pixel;
    const A strength = t.strength ? *t.strength : A(1);
    for (int64_t i = 0; i < n; ++i) shift[i] += strength * widen(noise[i]);
  }
}

// d and bias of `n` channels.
template <typename S, typename A>
inline void channel_terms(const EpilogueShape& s, const EpilogueTerms<S>& t, int64_t sample, int64_t channel, int64_t n,
                          A* scale, A* shift) {
  for (int64_t i = 0; i < n; ++i) {
    scale[i] = channel_scale(t, s.channels, sample, channel + i);
    shift[i] = channel_shift(t, channel + i);
  }
}

template <typename S>
inline RowTerms<accumulate_t<S>> row_terms(const EpilogueShape& s, const EpilogueTerms<S>& t, int64_t sample,
                                           int64_t row) {
  if (s.channels_last) return {pixel_scale(t, sample, row), pixel_shift(t, sample, row)};
  return {channel_scale(t, s.channels, sample, row), channel_shift(t, row)};
}

template <typename A>
struct LaneTerms {
  Scratch<A> scale, shift;

  explicit LaneTerms(int64_t lanes) : scale(lanes), shift(lanes), row_scale_(lanes), row_shift_(lanes) {}

  template <typename S>
  void load(const EpilogueShape& s, const EpilogueTerms<S>& t, int64_t sample, int64_t lane, int64_t n) {
    if (s.channels_last)
      channel_terms(s, t, sample, lane, n, scale.data(), shift.data());
    else
      pixel_terms(t, sample, lane, n, scale.data(), shift.data());
  }

  // The lanes' terms in one row: those of the block, with the per-element maps put in.
  template <typename S>
  void at_row(const EpilogueShape& s, const EpilogueTerms<S>& t, int64_t sample, int64_t row, int64_t lane, int64_t n,
              const A** row_scale, const A** row_shift) {
    *row_scale = scale.data();
    *row_shift = shift.data();
    if (t.scale_map.data && t.scale_map.per_element) {
      const S* m = t.scale_map.data + sample * t.scale_map.batch_stride + row * s.lanes + lane;
      for (int64_t i = 0; i < n; ++i) row_scale_[i] = scale[i] * widen(m[i]);
      *row_scale = row_scale_.data();
    }
    if (t.shift_map.data && t.shift_map.per_element) {
      const S* m = t.shift_map.data + sample * t.shift_map.batch_stride + row * s.lanes + lane;
      for (int64_t i = 0; i < n; ++i) row_shift_[i] = shift[i] + widen(m[i]);
      *row_shift = row_shift_.data();
    }
  }

 private:
  Scratch<A> row_scale_, row_shift_;
};

// y may be x. act(v) * gain is one multiplication by the slope of v's side; without a clamp there is nothing to
// compare.
template <bool kClamp, typename A>
inline void epilogue_lanes(const A* x, const A* scale, const A* shift, RowTerms<A> row, A alpha, A gain, A clamp, A* y,
                           int64_t n) {
  const A below = alpha * gain;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A v = x[i] * (row.scale * scale[i]) + (row.shift + shift[i]);
    const A a = v * (v > A(0) ? gain : below);
    if constexpr (kClamp)
      y[i] = a > clamp ? clamp : a < -clamp ? -clamp : a;
    else
      y[i] = a;
  }
}

template <typename S, typename A>
inline void epilogue_row(const A* x, const A* scale, const A* shift, RowTerms<A> row, const EpilogueTerms<S>& t, A* y,
                         int64_t n) {
  const A alpha = t.alpha, gain = t.gain, clamp = t.clamp;
  if (clamp == clamp)
    epilogue_lanes<true>(x, scale, shift, row, alpha, gain, clamp, y, n);
  else
    epilogue_lanes<false>(x, scale, shift, row, alpha, gain, clamp, y, n);
}

// As epilogue_row() for `kRows` rows that lie `stride` apart, with the gain already in the terms. Rows that are read
// and written side by side keep more of memory busy and share what is loaded for the lanes.
template <int kRows, bool kClamp, typename A>
inline void epilogue_rows(const A* x, const A* scale, const A* shift, const RowTerms<A>* row, A alpha, A clamp, A* y,
                          int64_t stride, int64_t n) {
  A row_scale[kRows], row_shift[kRows];
  for (int k = 0; k < kRows; ++k) row_scale[k] = row[k].scale, row_shift[k] = row[k].shift;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const A lane_scale = scale[i], lane_shift = shift[i];
    for (int k = 0; k < kRows; ++k) {
      const A v = x[i + k * stride] * (row_scale[k] * lane_scale) + (row_shift[k] + lane_shift);
      const A a = v > A(0) ? v : alpha * v;
      if constexpr (kClamp)
        y[i + k * stride] = a > clamp ? clamp : a < -clamp ? -clamp : a;
      else
        y[i + k * stride] = a;
    }
  }
}

// One line of `width` pixels of one channel of a contiguous result: f, where wanted, and its epilogue y, where wanted.
template <typename S, typename A = accumulate_t<S>>
inline void finish_line(const EpilogueShape& s, const EpilogueTerms<S>& t, LaneTerms<A>& lane, int64_t plane,
                        int64_t line, int64_t width, const A* f, A* scratch, S* y, S* kept) {
  const int64_t sample = plane / s.channels, channel = plane % s.channels, pixel = line * width;
  const int64_t offset = plane * s.pixels + pixel;
  if (kept) narrow_row(f, kept + offset, width);
  if (!y) return;
  lane.load(s, t, sample, pixel, width);
  const A *scale, *shift;
  lane.at_row(s, t, sample, channel, pixel, width, &scale, &shift);
  A* to = write_row(y + offset, scratch);
  epilogue_row(f, scale, shift, row_terms(s, t, sample, channel), t, to, width);
  finish_row(to, y + offset, width);
}

}  // namespace GARFAST_ISA
}  // namespace garfast

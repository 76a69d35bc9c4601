// One output row of an up-/down-sampling filter, for upfirdn2d and for what fuses it.
#pragma once

#include "garfast/upfirdn2d.h"
#include "rows.h"

namespace garfast {
namespace GARFAST_ISA {

// Lanes of `inner` that are worked on at once when inner > 1: a few vectors, and rows that stay in the L2 cache.
constexpr int64_t kFirLanes = 64;

// A thread's filter: its taps once, and the rows in between.
template <typename S>
class FirRows {
 public:
  using A = accumulate_t<S>;

  FirRows(const Fir<A>& fir, int64_t width, int64_t inner, int64_t out_width)
      : fir_(fir),
        width_(width),
        inner_(inner),
        out_width_(out_width),
        lanes_(inner == 1          ? 1
               : inner < kFirLanes ? inner
                                   : kFirLanes),
        taps_(int64_t(fir.separable ? 1 : fir.height) * fir.width),
        column_taps_(fir.height),
        wide_((width > 0 ? width : 1) * lanes_),
        row_((width > 0 ? width : 1) * lanes_),
        stuffed_(inner == 1 ? (out_width > 0 ? out_width - 1 : 0) * fir.down + fir.width : 1) {
    for (int i = 0; i < fir.height; ++i)
      for (int j = 0; j < fir.width; ++j)
        if (!fir.separable) taps_[int64_t(i) * fir.width + j] = fir_tap(fir, i, j) * fir.gain;
    if (fir.separable)
      for (int j = 0; j < fir.width; ++j) {
        taps_[j] = fir_tap(fir.filter, fir.width, fir.flip, j) * fir.gain;
        column_taps_[j] = fir_tap(fir.filter, fir.width, fir.flip, j);
      }
  }

  // How many lanes of `inner` a call of row() makes at most.
  int64_t lanes() const { return lanes_; }

  // out[out_width, n] from lanes [lane, lane + n) of x [height, width, inner].
  void row(const S* x, int64_t height, int64_t out_row, int64_t lane, int64_t n, A* out) {
    const TapRange r = tap_range(out_row, fir_.height, fir_.up, fir_.down, fir_.pad_top, height);
    for (int64_t i = 0; i < out_width_ * n; ++i) out[i] = A(0);
    if (r.count == 0) return;
    if (fir_.separable) {
      for (int k = 0; k < r.count; ++k) {
        const A* from = read(x + (r.index + k) * width_ * inner_ + lane, n);
        const A weight = column_taps_[r.tap + k * fir_.up];
        A* to = row_.data();
        if (k == 0)
          for (int64_t i = 0; i < width_ * n; ++i) to[i] = weight * from[i];
        else
          for (int64_t i = 0; i < width_ * n; ++i) to[i] += weight * from[i];
      }
      along(row_.data(), taps_.data(), n, out);
    } else {
      for (int k = 0; k < r.count; ++k)
        along(read(x + (r.index + k) * width_ * inner_ + lane, n),
              taps_.data() + int64_t(r.tap + k * fir_.up) * fir_.width, n, out);
    }
  }

 private:
  // [width, n] as one dense row.
  const A* read(const S* from, int64_t n) {
    if (n == inner_) return read_row(from, wide_.data(), width_ * n);
    for (int64_t i = 0; i < width_; ++i) widen_row(from + i * inner_, wide_.data() + i * n, n);
    return wide_.data();
  }

  // out += the filter along the row.
  void along(const A* row, const A* taps, int64_t n, A* out) {
    if (inner_ == 1) return along_scalar(row, taps, out);
    for (int64_t o = 0; o < out_width_; ++o) {
      const TapRange r = tap_range(o, fir_.width, fir_.up, fir_.down, fir_.pad_left, width_);
      A* __restrict to = out + o * n;
      for (int k = 0; k < r.count; ++k) {
        const A weight = taps[r.tap + k * fir_.up];
        const A* __restrict from = row + (r.index + k) * n;
        for (int64_t i = 0; i < n; ++i) to[i] += weight * from[i];
      }
    }
  }

  // With one lane the vectors run along the row, over the row with its zeros and its padding.
  void along_scalar(const A* row, const A* taps, A* __restrict out) {
    A* __restrict z = stuffed_.data();
    const int64_t length = (out_width_ - 1) * fir_.down + fir_.width;
    for (int64_t i = 0; i < length; ++i) z[i] = A(0);
    const int64_t first = fir_.pad_left < 0 ? (-fir_.pad_left + fir_.up - 1) / fir_.up : 0;
    for (int64_t i = first; i < width_; ++i) {
      const int64_t at = i * fir_.up + fir_.pad_left;
      if (at >= length) break;
      z[at] = row[i];
    }
    for (int j = 0; j < fir_.width; ++j) {
      const A weight = taps[j];
      if (fir_.down == 1)
        for (int64_t o = 0; o < out_width_; ++o) out[o] += weight * z[o + j];
      else
        for (int64_t o = 0; o < out_width_; ++o) out[o] += weight * z[o * fir_.down + j];
    }
  }

  const Fir<A> fir_;
  const int64_t width_, inner_, out_width_, lanes_;
  Scratch<A> taps_, column_taps_, wide_, row_, stuffed_;
};

}  // namespace GARFAST_ISA
}  // namespace garfast

// One output row of an up-/down-sampling filter, for upfirdn2d and for what fuses it.
#pragma once

#include <algorithm>

#include "garfast/upfirdn2d.h"
#include "rows.h"

namespace garfast {
namespace GARFAST_ISA {

// Lanes of `inner` that are worked on at once when inner > 1: a few vectors, and rows that stay in the L2 cache.
constexpr int64_t kFirLanes = 64;
// Rows that are weighed in one pass.
constexpr int kFirRows = 4;

// to = the sum of ``count`` rows [n], each times its weight, beside what `to` held where ``add``: four rows in a pass,
// so that it is read and written as seldom.
template <int kRows, bool kAdd, typename A>
inline void weigh(const A* const* rows, const A* weights, int64_t n, A* __restrict to) {
  const A* from[kRows];
  A weight[kRows];
  for (int k = 0; k < kRows; ++k) {
    from[k] = rows[k];
    weight[k] = weights[k];
  }
  for (int64_t i = 0; i < n; ++i) {
    A sum = kAdd ? to[i] + weight[0] * from[0][i] : weight[0] * from[0][i];
    for (int k = 1; k < kRows; ++k) sum += weight[k] * from[k][i];
    to[i] = sum;
  }
}
template <bool kAdd, typename A>
inline void weigh(int count, const A* const* rows, const A* weights, int64_t n, A* to) {
  switch (count) {
    case 1:
      return weigh<1, kAdd>(rows, weights, n, to);
    case 2:
      return weigh<2, kAdd>(rows, weights, n, to);
    case 3:
      return weigh<3, kAdd>(rows, weights, n, to);
    default:
      static_assert(kFirRows == 4);
      return weigh<kFirRows, kAdd>(rows, weights, n, to);
  }
}
// ``row(k)`` is the k-th row and ``weight(k)`` its weight.
template <typename A, typename Row, typename Weight>
inline void weighted_sum(int count, Row row, Weight weight, int64_t n, bool add, A* to) {
  for (int first = 0; first < count; first += kFirRows) {
    const int some = count - first < kFirRows ? count - first : kFirRows;
    const A* rows[kFirRows];
    A weights[kFirRows];
    for (int k = 0; k < some; ++k) {
      rows[k] = row(first + k);
      weights[k] = weight(first + k);
    }
    if (add || first)
      weigh<true>(some, rows, weights, n, to);
    else
      weigh<false>(some, rows, weights, n, to);
  }
}

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
        wide_(kFirRows * (width > 0 ? width : 1) * lanes_),
        row_((width > 0 ? width : 1) * lanes_),
        phase_(out_width + (fir.width - 1) / fir.down),
        stuffed_(inner == 1 ? fir.down * phase_ : 1),
        columns_(inner == 1 ? 1 : out_width) {
    if (inner != 1)
      for (int64_t o = 0; o < out_width; ++o)
        columns_[o] = tap_range(o, fir.width, fir.up, fir.down, fir.pad_left, width);
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
    if (r.count == 0) {
      std::fill_n(out, out_width_ * n, A(0));
      return;
    }
    const auto source = [&](int k) { return read(x + (r.index + k) * width_ * inner_ + lane, n, k % kFirRows); };
    if (fir_.separable) {
      const auto weight = [&](int k) { return column_taps_[r.tap + k * fir_.up]; };
      weighted_sum(r.count, source, weight, width_ * n, false, row_.data());
      return along(row_.data(), taps_.data(), n, false, out);
    }
    for (int k = 0; k < r.count; ++k)
      along(source(k), taps_.data() + int64_t(r.tap + k * fir_.up) * fir_.width, n, k > 0, out);
  }

 private:
  // [width, n] as one dense row; place: which of kFirRows such rows it may overwrite.
  const A* read(const S* from, int64_t n, int place) {
    A* wide = wide_.data() + place * width_ * lanes_;
    if (n == inner_) return read_row(from, wide, width_ * n);
    for (int64_t i = 0; i < width_; ++i) widen_row(from + i * inner_, wide + i * n, n);
    return wide;
  }

  // out, or what is added to it: the filter along the row.
  void along(const A* row, const A* taps, int64_t n, bool add, A* out) {
    if (inner_ == 1) return along_scalar(row, taps, add, out);
    for (int64_t o = 0; o < out_width_; ++o) {
      const TapRange r = columns_[o];
      A* to = out + o * n;
      if (r.count == 0 && !add) std::fill_n(to, n, A(0));
      const auto source = [&](int k) { return row + (r.index + k) * n; };
      weighted_sum(r.count, source, [&](int k) { return taps[r.tap + k * fir_.up]; }, n, add, to);
    }
  }

  // With one lane the vectors run along the row.
  void along_scalar(const A* row, const A* taps, bool add, A* out) {
    stuff(row);
    const auto source = [&](int j) { return stuffed_.data() + j % fir_.down * phase_ + j / fir_.down; };
    weighted_sum(fir_.width, source, [&](int j) { return taps[j]; }, out_width_, add, out);
  }

  // The row with its zeros and its padding. Where outputs are `down` apart, those places come first that are multiples
  // of it, then those one further, ..., so that what a tap meets lies side by side.
  void stuff(const A* row) {
    A* __restrict z = stuffed_.data();
    const int64_t up = fir_.up, down = fir_.down, pad = fir_.pad_left, length = (out_width_ - 1) * down + fir_.width;
    std::fill_n(z, down * phase_, A(0));
    const int64_t first = pad < 0 ? (-pad + up - 1) / up : 0;
    const int64_t room = length > pad ? (length - pad + up - 1) / up : 0, end = room < width_ ? room : width_;
    if (up == 1) {
      for (int64_t k = first; k < first + down && k < end; ++k) {
        A* __restrict to = z + (k + pad) % down * phase_ + (k + pad) / down;
        const int64_t count = (end - k + down - 1) / down;
        // A distance that the compiler knows makes vectors.
        if (down == 1)
          std::copy_n(row + k, count, to);
        else if (down == 2)
          for (int64_t i = 0; i < count; ++i) to[i] = row[k + 2 * i];
        else
          for (int64_t i = 0; i < count; ++i) to[i] = row[k + down * i];
      }
    } else if (down == 1) {
      for (int64_t i = first; i < end; ++i) z[i * up + pad] = row[i];
    } else {
      for (int64_t i = first; i < end; ++i) z[(i * up + pad) % down * phase_ + (i * up + pad) / down] = row[i];
    }
  }

  const Fir<A> fir_;
  const int64_t width_, inner_, out_width_, lanes_;
  Scratch<A> taps_, column_taps_, wide_, row_;
  const int64_t phase_;  // length of what stuff() lays side by side
  Scratch<A> stuffed_;
  Scratch<TapRange> columns_;  // the taps of each output column
};

}  // namespace GARFAST_ISA
}  // namespace garfast

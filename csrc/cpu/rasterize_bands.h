// Which triangles the rasteriser draws where: lists of them for bands of rows, at every level.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#include "garfast/rasterize_normals.h"
#include "rasterize_lanes.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

// Pixels of a band: at most what the second cache holds, at least what is worth its overhead.
constexpr int64_t kMostPixels = 16384, kLeastPixels = 2048;

// A growing list of triangles. Not std::vector<int32_t>: its functions are one symbol for all instruction sets, and the
// linker might keep one that this machine cannot run (see isa.h). Types of this namespace are our own.
struct List {
  int32_t* data = nullptr;
  size_t size = 0, capacity = 0;

  List() = default;
  List(const List&) = delete;
  ~List() { std::free(data); }
  void push(int32_t value) {
    reserve(1);
    data[size++] = value;
  }
  // Appends first + l for every lane l of `bits`, without a branch that depends on them.
  template <typename T>
  void push_lanes(unsigned bits, int32_t first) {
    constexpr int kLanes = Simd<T>::kLanes;
    reserve(kLanes);
    if constexpr (kPacks<T> && sizeof(T) == sizeof(int32_t)) {
      Packing<T>{bits}(iota<typename Simd<T>::I>() + first, data + size);
      size += __builtin_popcount(bits);
    } else {
      for (int l = 0; l < kLanes; ++l) {
        data[size] = first + l;
        size += bits >> l & 1;
      }
    }
  }

 private:
  void reserve(size_t more) {
    if (size + more <= capacity) return;
    capacity = capacity ? 2 * capacity : 256;
    data = static_cast<int32_t*>(std::realloc(data, capacity * sizeof(int32_t)));
    if (!data) throw std::bad_alloc();
  }
};

struct Band {
  int level, row_begin, row_end;
};

struct Order {
  int band;
  int64_t pixels;
};

// The bands of one sample at every level, and how to find them from a row.
struct Bands {
  std::vector<Band> all;
  std::vector<Order> order;  // the biggest first, so that no thread is left with one at the end
  int first[kMaxRasterLevels], shift[kMaxRasterLevels];

  // samples: how many are drawn with these bands; num_threads: among which they are shared out, several for each.
  Bands(const RasterLevels& levels, int64_t samples, int num_threads) {
    const int64_t share = samples * levels.start[levels.count] / (2 * num_threads);
    const int64_t pixels = std::min(std::max(share, kLeastPixels), kMostPixels);
    for (int l = 0; l < levels.count; ++l) {
      first[l] = int(all.size());
      shift[l] = 0;
      while ((int64_t(2) << shift[l]) * levels.width[l] <= pixels) ++shift[l];
      for (int row = 0; row < levels.height[l]; row += 1 << shift[l])
        all.push_back({l, row, std::min(row + (1 << shift[l]), levels.height[l])});
    }
    for (size_t i = 0; i < all.size(); ++i)
      order.push_back({int(i), int64_t(all[i].row_end - all[i].row_begin) * levels.width[all[i].level]});
    std::sort(order.begin(), order.end(), [](const Order& a, const Order& b) { return a.pixels > b.pixels; });
  }
};

// The levels' sizes, to be read as vectors with one level in each lane.
template <typename T>
struct LaneLevels {
  using S = Simd<T>;
  static_assert(kMaxRasterLevels % S::kLanes == 0);
  T half_width[kMaxRasterLevels]{}, half_height[kMaxRasterLevels]{};
  T last_column[kMaxRasterLevels], last_row[kMaxRasterLevels];
  const int count;

  explicit LaneLevels(const RasterLevels& levels) : count(levels.count) {
    std::fill_n(last_column, kMaxRasterLevels, T(-1));  // no pixels beyond the last level
    std::fill_n(last_row, kMaxRasterLevels, T(-1));
    for (int l = 0; l < count; ++l) {
      half_width[l] = T(levels.width[l]) * T(0.5);
      half_height[l] = T(levels.height[l]) * T(0.5);
      last_column[l] = T(levels.width[l] - 1);
      last_row[l] = T(levels.height[l] - 1);
    }
  }

  // One bit per level at which a box holds pixel centres.
  unsigned seen(T x_low, T x_high, T y_low, T y_high) const {
    using V = typename S::V;
    unsigned bits = 0;
    for (int l = 0; l < count; l += S::kLanes) {
      const V half_widths = load<V>(half_width + l), half_heights = load<V>(half_height + l);
      const auto left = first_pixels<T>(pixel_u(fill<V>(x_low), half_widths));
      const auto right = last_pixels<T>(pixel_u(fill<V>(x_high), half_widths), load<V>(last_column + l));
      const auto top = first_pixels<T>(pixel_v(fill<V>(y_high), half_heights));
      const auto bottom = last_pixels<T>(pixel_v(fill<V>(y_low), half_heights), load<V>(last_row + l));
      bits |= mask_bits((left <= right) & (top <= bottom)) << l;
    }
    return bits;
  }
};

}  // namespace
}  // namespace GARFAST_ISA
}  // namespace garfast

// The small memory in which the rasteriser draws: only it is written to more than once, and it stays in cache.
#pragma once

#include <cstdint>
#include <limits>

#include "rasterize_lanes.h"
#include "rows.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

// Boxes of more pixels than this go row by row instead of in a lane.
constexpr int kLaneBox = 256;
// Pixels that become images at once.
constexpr int kBlock = 16;

// What the triangles of one band leave behind, before it becomes images.
template <typename T>
class Canvas {
 public:
  // Planes start at different places within a page of memory, or their stores would wait for one another's loads.
  explicit Canvas(int64_t pixels)
      : stride_((pixels + kBlock - 1) / kBlock * kBlock + kBlock), ids_(stride_), values_(4 * stride_) {}

  int32_t* ids() { return ids_.data(); }
  T* depth() { return values_.data(); }
  T* barycentrics(int k) { return values_.data() + (k + 1) * stride_; }
  const int32_t* ids() const { return ids_.data(); }
  const T* depth() const { return values_.data(); }
  const T* barycentrics(int k) const { return values_.data() + (k + 1) * stride_; }

  // Nothing is seen at the first `pixels` pixels, nor at those up to the end of their last block.
  void clear(int64_t pixels) {
    using S = Simd<T>;
    for (int64_t block = 0; block < pixels; block += kBlock) {
      for (int64_t i = block; i < block + kBlock; i += S::kLanes) {
        store(fill<typename S::Int32>(-1), ids() + i);
        store(fill<typename S::V>(std::numeric_limits<T>::infinity()), depth() + i);
      }
    }
  }

 private:
  const int64_t stride_;
  Scratch<int32_t> ids_;
  Scratch<T> values_;
};

// The pixels that a vector of triangles hits, in the order in which they are found. They are put down without a branch,
// where there are instructions for it, and drawn all at once: how many lanes hit at a step is anybody's guess, and
// where the processor has to make one, to draw each hit as it is found, its mistakes cost more than the drawing.
template <typename T>
class Hits {
  using S = Simd<T>;
  using V = typename S::V;
  using I = typename S::I;
  using Index = typename S::Index;

 public:
  Hits() : pixels_(kRoom), triangles_(kRoom), values_(4 * kRoom) {}

  // Adds the lanes of `bits` to the `count` hits that are there; returns how many there are then. There is room for
  // what kLanes boxes of kLaneBox pixels hold.
  int add(int count, unsigned bits, I pixels, I triangles, V depth, V b0, V b1, V b2) {
    T* values = values_.data();
    if constexpr (kPacks<T>) {
      const Packing<T> packing(bits);
      packing(pixels, pixels_.data() + count);
      packing(triangles, triangles_.data() + count);
      packing(depth, values + count);
      packing(b0, values + count + kRoom);
      packing(b1, values + count + 2 * kRoom);
      packing(b2, values + count + 3 * kRoom);
      return count + __builtin_popcount(bits);
    }
    for (; bits; bits &= bits - 1, ++count) {
      const int l = __builtin_ctz(bits);
      pixels_[count] = pixels[l];
      triangles_[count] = triangles[l];
      values[count] = depth[l];
      values[count + kRoom] = b0[l];
      values[count + 2 * kRoom] = b1[l];
      values[count + 3 * kRoom] = b2[l];
    }
    return count;
  }

  // The nearest hit at every pixel stays, of equally near ones the triangle with the lower index.
  void draw(int count, Canvas<T>& canvas) const {
    const Index *pixels = pixels_.data(), *triangles = triangles_.data();
    const T* values = values_.data();
    int32_t* ids = canvas.ids();
    T *depths = canvas.depth(), *b0 = canvas.barycentrics(0), *b1 = canvas.barycentrics(1),
      *b2 = canvas.barycentrics(2);
    for (int i = 0; i < count; ++i) {
      const Index pixel = pixels[i];
      const int32_t triangle = int32_t(triangles[i]);
      const T depth = values[i];
      if (!(depth < depths[pixel] || (depth == depths[pixel] && triangle < ids[pixel]))) continue;
      depths[pixel] = depth;
      ids[pixel] = triangle;
      b0[pixel] = values[i + kRoom];
      b1[pixel] = values[i + 2 * kRoom];
      b2[pixel] = values[i + 3 * kRoom];
    }
  }

 private:
  static constexpr int kRoom = kLaneBox * S::kLanes + kBlock;
  Scratch<Index> pixels_, triangles_;
  Scratch<T> values_;
};

// What a thread draws with.
template <typename T>
struct Easel {
  Canvas<T> canvas;
  Hits<T> hits;
};

}  // namespace
}  // namespace GARFAST_ISA
}  // namespace garfast

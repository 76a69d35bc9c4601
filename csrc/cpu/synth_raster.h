// What a grid of samples sees of a triangle mesh. Included by the kernels that draw synthetic faces.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "garfast/synth_noise.h"
#include "synth_lanes.h"

GARFAST_MATH_BEGIN

// A vertex as the sample grid sees it: four floats, so that one load fetches a corner of a triangle. How near it is, is
// linear over the picture: z without perspective, 1 / depth with it.
using Corner = Quad;
constexpr int kColumn = 0, kRow = 1, kNear = 2, kInverse = 3;  // kInverse: 1 / depth, 1 without perspective, -1 behind
constexpr float kNothing = -std::numeric_limits<float>::infinity();  // how near it is where there is nothing

inline Corner smaller(Corner a, Corner b) { return a < b ? a : b; }
inline Corner larger(Corner a, Corner b) { return a > b ? a : b; }

// From camera space to the sample grid: column = x / depth * scale_x + offset_x, and so on.
struct Lens {
  float scale_x, scale_y, offset_x, offset_y;
  bool orthographic;

  // ndc: coefficients as for rasterize_normals.
  Lens(const float* ndc, int64_t width, int64_t height, bool orthographic)
      : scale_x(ndc[0] * 0.5f * float(width)),
        scale_y(-ndc[1] * 0.5f * float(height)),
        offset_x((ndc[2] + 1.0f) * 0.5f * float(width) - 0.5f),
        offset_y((1.0f - ndc[3]) * 0.5f * float(height) - 0.5f),
        orthographic(orthographic) {}

  Corner project(float x, float y, float z) const {
    const bool in_front = orthographic || -z > 1.0f;
    const float w = orthographic ? 1.0f : 1.0f / (in_front ? -z : 1.0f);
    return Corner{x * scale_x * w + offset_x, y * scale_y * w + offset_y, orthographic ? z : w, in_front ? w : -1.0f};
  }

  // Points seen at places of the grid, from how near they are.
  Vec unproject(Lanes column, Lanes row, Lanes near) const {
    const Lanes depth = orthographic ? lanes(1.0f) : 1.0f / near;
    return {(column - offset_x) * (1.0f / scale_x) * depth, (row - offset_y) * (1.0f / scale_y) * depth,
            orthographic ? near : -depth};
  }
};

// The samples that a bounding box holds; of a whole mesh, or of a triangle.
struct Box {
  int32_t column0, column1, row0, row1;
};

// What the samples of a grid see: how near it is, and which triangle (if anybody asks), -1 where there is none.
struct Grid {
  float* near;
  int32_t* ids;
  int64_t width, height;

  void clear(const Box& box) const {
    for (int64_t row = box.row0; row <= box.row1; ++row) {
      const int64_t start = row * width + box.column0, count = box.column1 - box.column0 + 1;
      std::fill_n(near + start, count, kNothing);
      if (ids) std::fill_n(ids + start, count, -1);
    }
  }
};

// Places of samples as places of the middles of blocks of 2x2 samples.
inline Corner in_middles(Corner c) {
  return Corner{c[kColumn] * 0.5f - 0.25f, c[kRow] * 0.5f - 0.25f, c[kNear], c[kInverse]};
}

// The box between two corners on a grid of which ``last`` is the last column and row; returns whether it holds
// anything.
inline bool boxed(Corner least, Corner most, Corner last, Box& out) {
  const Corner low = larger(least, Corner{0, 0, 0, 0}), high = smaller(most, last);
  // Conversion cuts off the fraction, which rounds these down, as they are not negative; -1 where that is below.
  const QuadChoice down = __builtin_convertvector(low, QuadChoice);
  const QuadChoice from = down - (__builtin_convertvector(down, Corner) < low);
  const QuadChoice to = __builtin_convertvector(high, QuadChoice);
  out = {from[kColumn], to[kColumn], from[kRow], to[kRow]};
  return (high[kColumn] >= 0.0f) & (high[kRow] >= 0.0f) & (from[kColumn] <= to[kColumn]) & (from[kRow] <= to[kRow]);
}

// Weights of a triangle's first two corners at a place, linear over the picture; (x, y) is seen from the third corner.
// T: a number, or a vector with a triangle in each lane.
template <typename T>
struct Weights {
  T first_x, first_y, second_x, second_y;

  template <typename C>
  Weights(const C& a, const C& b, const C& d) {
    const T ab_column = b[kColumn] - a[kColumn], ab_row = b[kRow] - a[kRow];
    const T ad_column = d[kColumn] - a[kColumn], ad_row = d[kRow] - a[kRow];
    const T scale = 1.0f / (ab_column * ad_row - ad_column * ab_row);
    first_x = (b[kRow] - d[kRow]) * scale;
    first_y = (d[kColumn] - b[kColumn]) * scale;
    second_x = ad_row * scale;
    second_y = -ad_column * scale;
  }
  template <typename X, typename Y>
  X first(X x, Y y) const {
    return first_x * x + first_y * y;
  }
  template <typename X, typename Y>
  X second(X x, Y y) const {
    return second_x * x + second_y * y;
  }
};

// Draws a triangle where it is nearer than what the grid shows, eight samples of a row at a time.
template <bool kIds>
inline void draw_triangle(Corner a, Corner b, Corner d, const Box& box, int32_t triangle, const Grid& grid) {
  if (box.column0 > box.column1 || box.row0 > box.row1) return;
  constexpr float kEdge = -1e-6f;  // samples on a shared edge belong to both triangles, so that no crack opens
  constexpr Lanes kCounted{0, 1, 2, 3, 4, 5, 6, 7};
  const Weights<float> w(a, b, d);
  const float near0 = a[kNear] - d[kNear], near1 = b[kNear] - d[kNear], near2 = d[kNear];
  const float first = float(box.column0), last = float(box.column1);
  for (int32_t from = box.column0; from <= box.column1; from += kLanes) {
    // Never across the end of a row; what lies outside the box is not the triangle's.
    const int64_t start = std::min<int64_t>(from, grid.width - kLanes);
    const Lanes column = kCounted + float(start), x = column - d[kColumn];
    const Choice within = (column >= first) & (column <= last);
    for (int32_t row = box.row0; row <= box.row1; ++row) {
      const float y = float(row) - d[kRow];
      const Lanes w0 = w.first(x, y), w1 = w.second(x, y), w2 = 1.0f - w0 - w1;
      const Lanes near = near2 + near0 * w0 + near1 * w1;
      float* shown = grid.near + row * grid.width + start;
      Lanes before;
      std::memcpy(&before, shown, sizeof before);
      const Choice nearer = (smaller(smaller(w0, w1), w2) >= kEdge) & (near > before) & within;
      const Lanes after = nearer ? near : before;
      std::memcpy(shown, &after, sizeof after);
      if (kIds) {
        int32_t* which = grid.ids + row * grid.width + start;
        Choice ids;
        std::memcpy(&ids, which, sizeof ids);
        ids = nearer ? triangle - Choice{} : ids;
        std::memcpy(which, &ids, sizeof ids);
      }
    }
  }
}

// Projects vertices [V, 3], moved by a frame [3, 4] where there is one; returns the box on the grid that they may
// reach, empty if all are behind the camera.
inline Box project(const float* positions, int64_t count, const float* frame, const Lens& lens, const Grid& grid,
                   Corner* corners) {
  constexpr float kFar = std::numeric_limits<float>::max();
  Corner least{kFar, kFar, kFar, kFar}, most = -least;
  for (int64_t i = 0; i < count; ++i) {
    float x = positions[3 * i], y = positions[3 * i + 1], z = positions[3 * i + 2];
    if (frame) {
      const float* f = frame;
      const float u = f[0] * x + f[1] * y + f[2] * z + f[3], v = f[4] * x + f[5] * y + f[6] * z + f[7];
      z = f[8] * x + f[9] * y + f[10] * z + f[11];
      x = u;
      y = v;
    }
    const Corner corner = lens.project(x, y, z);
    corners[i] = corner;
    if (corner[kInverse] > 0.0f) {
      least = smaller(least, corner);
      most = larger(most, corner);
    }
  }
  Box box;
  const Corner last{float(grid.width - 1), float(grid.height - 1), 0, 0};
  if (!boxed(least, most, last, box)) box = {0, -1, 0, -1};
  return box;
}

// Draws a mesh into a grid and, where ``middles`` is given, also into that of the middles of its blocks of 2x2 samples:
// what a picture of half the resolution sees.
template <bool kIds>
void draw_mesh(const Corner* corners, const int32_t* triangles, int64_t count, bool cull, const Grid& grid,
               const Grid* middles) {
  // Most triangles of a dense mesh face away or fall between samples; a first pass leaves them out, the latter without
  // a branch.
  struct Candidate {
    int32_t triangle;
    Box samples, middles;
  };
  constexpr int kBlock = 256;
  Candidate block[kBlock];
  const Corner last{float(grid.width - 1), float(grid.height - 1), 0, 0};
  const Corner last_middle{float(grid.width / 2 - 1), float(grid.height / 2 - 1), 0, 0};
  for (int64_t start = 0; start < count; start += kBlock) {
    const int64_t stop = std::min(start + kBlock, count);
    int found = 0;
    for (int64_t f = start; f < stop; ++f) {
      const int32_t* c = triangles + 3 * f;
      const Corner a = corners[c[0]], b = corners[c[1]], d = corners[c[2]];
      const Corner ab = b - a, ad = d - a;
      // Rows run downward, so a counter-clockwise triangle has a negative area here.
      const float area = ab[kColumn] * ad[kRow] - ad[kColumn] * ab[kRow];
      // Triangles that follow one another face alike as a rule, so this branch is foreseen.
      if (!(cull ? area < 0.0f : area != 0.0f)) continue;
      const Corner least = smaller(smaller(a, b), d), most = larger(larger(a, b), d);
      Candidate& candidate = block[found];
      candidate.triangle = int32_t(f);
      bool holds = boxed(least, most, last, candidate.samples);
      if (middles) holds |= boxed(in_middles(least), in_middles(most), last_middle, candidate.middles);
      found += (least[kInverse] > 0.0f) & holds;
    }
    for (int i = 0; i < found; ++i) {
      const int32_t triangle = block[i].triangle;
      const int32_t* c = triangles + 3 * int64_t(triangle);
      const Corner a = corners[c[0]], b = corners[c[1]], d = corners[c[2]];
      draw_triangle<kIds>(a, b, d, block[i].samples, triangle, grid);
      if (middles)
        draw_triangle<kIds>(in_middles(a), in_middles(b), in_middles(d), block[i].middles, triangle, *middles);
    }
  }
}

GARFAST_MATH_END

// Blendshape sums and visibility for synthetic faces.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "garfast/synth.h"

namespace garfast {
namespace GARFAST_ISA {

void synth_blend(const SynthBlendParams& p) {
  // Blocks that stay in the first-level cache while all rows are added.
  constexpr int64_t kBlock = 4096;
  std::vector<const int16_t*> rows;
  std::vector<float> weights;
  for (int64_t k = 0; k < p.num_rows; ++k)
    if (p.weights[k] != 0.0f) {
      rows.push_back(p.basis + k * p.row_size);
      weights.push_back(p.weights[k] * p.step[k]);
    }
  for (int64_t start = 0; start < p.size; start += kBlock) {
    const int64_t count = std::min(kBlock, p.size - start);
    float* out = p.out + start;
    std::copy_n(p.mean + start, count, out);
    // Four rows at a time, so that the sum stays in registers for longer.
    size_t k = 0;
    for (; k + 4 <= rows.size(); k += 4) {
      const int16_t *a = rows[k] + start, *b = rows[k + 1] + start, *c = rows[k + 2] + start, *d = rows[k + 3] + start;
      const float wa = weights[k], wb = weights[k + 1], wc = weights[k + 2], wd = weights[k + 3];
      for (int64_t i = 0; i < count; ++i)
        out[i] += wa * float(a[i]) + wb * float(b[i]) + wc * float(c[i]) + wd * float(d[i]);
    }
    for (; k < rows.size(); ++k) {
      const int16_t* row = rows[k] + start;
      for (int64_t i = 0; i < count; ++i) out[i] += weights[k] * float(row[i]);
    }
  }
}

namespace {

// Samples that a triangle's bounding box holds; empty boxes have column0 > column1.
struct Box {
  int32_t column0, column1, row0, row1;
};

constexpr int kBlock = 256;
constexpr int kNarrow = 8;
constexpr float kEdge = -1e-6f;  // samples on a shared edge belong to both triangles, so that no crack opens

// Boxes of a block of triangles. Most triangles of a dense mesh face away or fall between samples; this pass without
// branches finds them.
void boxes(const SynthVisibilityParams& p, const float* x, const float* y, const float* inverse, int64_t first,
           int count, Box* out) {
  const float last_column = float(p.width - 1), last_row = float(p.height - 1);
  for (int i = 0; i < count; ++i) {
    const int32_t* c = p.triangles + 3 * (first + i);
    const float x0 = x[c[0]], x1 = x[c[1]], x2 = x[c[2]], y0 = y[c[0]], y1 = y[c[1]], y2 = y[c[2]];
    // Rows run downward, so a counter-clockwise triangle has a negative area here.
    const float area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0);
    const bool facing = p.cull ? area < 0.0f : area != 0.0f;
    const bool in_front = std::min(std::min(inverse[c[0]], inverse[c[1]]), inverse[c[2]]) > 0.0f;
    const float left = std::max(std::min(std::min(x0, x1), x2), 0.0f);
    const float right = std::min(std::max(std::max(x0, x1), x2), last_column);
    const float top = std::max(std::min(std::min(y0, y1), y2), 0.0f);
    const float bottom = std::min(std::max(std::max(y0, y1), y2), last_row);
    const float column0 = std::ceil(left), column1 = std::floor(right), row0 = std::ceil(top),
                row1 = std::floor(bottom);
    const bool keep = facing & in_front & (column0 <= column1) & (row0 <= row1);
    out[i] = {keep ? int32_t(column0) : 1, keep ? int32_t(column1) : 0, int32_t(keep ? row0 : 0.0f),
              int32_t(keep ? row1 : 0.0f)};
  }
}

// Change of the first two barycentrics per column and row.
struct Weights {
  float first_x, first_y, second_x, second_y;
};

// Numerator and denominator of the depth at the three corners.
struct Ends {
  float depth0, depth1, depth2, scale0, scale1, scale2;
};

// One row of a triangle's box; (dx, dy) is its first sample, seen from the third corner. Wide rows run without
// branches, so that the compiler makes vectors of them; in narrow ones it is quicker to leave a sample that lies
// outside at once.
template <bool kIds>
inline void draw_row(const Weights& w, const Ends& e, float dx, float dy, int width, int32_t triangle,
                     float* __restrict depth, int32_t* __restrict ids, float* __restrict first,
                     float* __restrict second) {
  const float first_row = w.first_y * dy, second_row = w.second_y * dy;
  if (width < kNarrow) {
    for (int i = 0; i < width; ++i) {
      const float x = dx + float(i);
      const float w0 = first_row + w.first_x * x, w1 = second_row + w.second_x * x, w2 = 1.0f - w0 - w1;
      if (std::min(std::min(w0, w1), w2) < kEdge) continue;
      const float s0 = w0 * e.scale0, s1 = w1 * e.scale1, s2 = w2 * e.scale2;
      const float ratio = 1.0f / (s0 + s1 + s2);
      const float z = (w0 * e.depth0 + w1 * e.depth1 + w2 * e.depth2) * ratio;
      if (z >= depth[i]) continue;
      depth[i] = z;
      if (kIds) {
        ids[i] = triangle;
        first[i] = s0 * ratio;
        second[i] = s1 * ratio;
      }
    }
    return;
  }
  for (int i = 0; i < width; ++i) {
    const float x = dx + float(i);
    const float w0 = first_row + w.first_x * x, w1 = second_row + w.second_x * x, w2 = 1.0f - w0 - w1;
    const float s0 = w0 * e.scale0, s1 = w1 * e.scale1, s2 = w2 * e.scale2;
    const float ratio = 1.0f / (s0 + s1 + s2);
    const float z = (w0 * e.depth0 + w1 * e.depth1 + w2 * e.depth2) * ratio;
    const bool nearer = (std::min(std::min(w0, w1), w2) >= kEdge) & (z < depth[i]);
    depth[i] = nearer ? z : depth[i];
    if (kIds) {
      ids[i] = nearer ? triangle : ids[i];
      first[i] = nearer ? s0 * ratio : first[i];
      second[i] = nearer ? s1 * ratio : second[i];
    }
  }
}

}  // namespace

void synth_visibility(const SynthVisibilityParams& p) {
  const int64_t pixels = p.height * p.width, count = p.num_vertices;
  std::vector<float> scratch(3 * count);
  float *xs = scratch.data(), *ys = xs + count, *inverse = ys + count;
  const float half_width = 0.5f * float(p.width), half_height = 0.5f * float(p.height);
  for (int64_t i = 0; i < count; ++i) {
    const float* v = p.positions + 3 * i;
    const bool in_front = p.orthographic || -v[2] > 1.0f;
    const float w = p.orthographic ? 1.0f : 1.0f / (in_front ? -v[2] : 1.0f);
    inverse[i] = in_front ? w : -1.0f;
    xs[i] = (p.camera[0] * v[0] * w + p.camera[2] + 1.0f) * half_width - 0.5f;
    ys[i] = (1.0f - p.camera[1] * v[1] * w - p.camera[3]) * half_height - 0.5f;
  }
  if (p.clear) std::fill_n(p.depth, pixels, std::numeric_limits<float>::infinity());
  if (p.ids) std::fill_n(p.ids, pixels, -1);
  Box block[kBlock];
  for (int64_t first = 0; first < p.num_triangles; first += kBlock) {
    const int size = int(std::min<int64_t>(kBlock, p.num_triangles - first));
    boxes(p, xs, ys, inverse, first, size, block);
    for (int i = 0; i < size; ++i) {
      const Box box = block[i];
      if (box.column0 > box.column1) continue;
      const int64_t t = first + i;
      const int32_t* c = p.triangles + 3 * t;
      const float x0 = xs[c[0]], y0 = ys[c[0]], x1 = xs[c[1]], y1 = ys[c[1]], x2 = xs[c[2]], y2 = ys[c[2]];
      const float scale = 1.0f / ((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0));
      const float ia = inverse[c[0]], ib = inverse[c[1]], ic = inverse[c[2]];
      const float d0 = -p.positions[3 * c[0] + 2], d1 = -p.positions[3 * c[1] + 2], d2 = -p.positions[3 * c[2] + 2];
      // Depth is a ratio of linear functions of the sample's place; the barycentrics share its denominator.
      const Weights w{(y1 - y2) * scale, (x2 - x1) * scale, (y2 - y0) * scale, (x0 - x2) * scale};
      const Ends ends = p.orthographic ? Ends{d0, d1, d2, 1.0f, 1.0f, 1.0f} : Ends{1.0f, 1.0f, 1.0f, ia, ib, ic};
      const int width = box.column1 - box.column0 + 1;
      for (int row = box.row0; row <= box.row1; ++row) {
        const float dy = float(row) - y2, dx = float(box.column0) - x2;
        const int64_t pixel = row * p.width + box.column0;
        float* depth = p.depth + pixel;
        if (p.ids)
          draw_row<true>(w, ends, dx, dy, width, int32_t(t), depth, p.ids + pixel, p.barycentrics + pixel,
                         p.barycentrics + pixels + pixel);
        else
          draw_row<false>(w, ends, dx, dy, width, int32_t(t), depth, nullptr, nullptr, nullptr);
      }
    }
  }
}

}  // namespace GARFAST_ISA
}  // namespace garfast

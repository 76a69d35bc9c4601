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
  for (int64_t start = 0; start < p.size; start += kBlock) {
    const int64_t count = std::min(kBlock, p.size - start);
    float* out = p.out + start;
    std::copy_n(p.mean + start, count, out);
    for (int64_t k = 0; k < p.num_rows; ++k) {
      const float weight = p.weights[k] * p.step[k];
      if (weight == 0.0f) continue;
      const int16_t* row = p.basis + k * p.row_size + start;
      for (int64_t i = 0; i < count; ++i) out[i] += weight * float(row[i]);
    }
  }
}

void synth_visibility(const SynthVisibilityParams& p) {
  const int width = int(p.width), height = int(p.height);
  const int64_t pixels = p.height * p.width;
  std::vector<float> xy(2 * p.num_vertices), inverse(p.num_vertices);
  for (int64_t i = 0; i < p.num_vertices; ++i) {
    const float* v = p.positions + 3 * i;
    const float w = p.orthographic ? 1.0f : 1.0f / std::max(-v[2], 1e-3f);
    inverse[i] = !p.orthographic && -v[2] < 1.0f ? -1.0f : w;
    const float x = p.camera[0] * v[0] * w + p.camera[2], y = p.camera[1] * v[1] * w + p.camera[3];
    xy[2 * i] = (x + 1.0f) * 0.5f * float(width) - 0.5f;
    xy[2 * i + 1] = (1.0f - y) * 0.5f * float(height) - 0.5f;
  }
  if (p.clear) std::fill_n(p.depth, pixels, std::numeric_limits<float>::infinity());
  if (p.ids) std::fill_n(p.ids, pixels, -1);
  for (int64_t t = 0; t < p.num_triangles; ++t) {
    const int32_t* c = p.triangles + 3 * t;
    const float ia = inverse[c[0]], ib = inverse[c[1]], ic = inverse[c[2]];
    if (ia < 0 || ib < 0 || ic < 0) continue;
    const float x0 = xy[2 * c[0]], y0 = xy[2 * c[0] + 1], x1 = xy[2 * c[1]], y1 = xy[2 * c[1] + 1];
    const float x2 = xy[2 * c[2]], y2 = xy[2 * c[2] + 1];
    // Rows run downward, so a counter-clockwise triangle has a negative area here.
    const float area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0);
    if (area == 0.0f || (p.cull && area > 0.0f)) continue;
    const float left = std::min({x0, x1, x2}), right = std::max({x0, x1, x2});
    const float top = std::min({y0, y1, y2}), bottom = std::max({y0, y1, y2});
    if (!(right >= 0 && bottom >= 0 && left <= float(width - 1) && top <= float(height - 1))) continue;
    const int column0 = int(std::ceil(std::max(left, 0.0f))), row0 = int(std::ceil(std::max(top, 0.0f)));
    const int column1 = int(std::min(right, float(width - 1))), row1 = int(std::min(bottom, float(height - 1)));
    const float scale = 1.0f / area;
    const float d0 = -p.positions[3 * c[0] + 2], d1 = -p.positions[3 * c[1] + 2], d2 = -p.positions[3 * c[2] + 2];
    for (int row = row0; row <= row1; ++row) {
      const float y = float(row);
      for (int column = column0; column <= column1; ++column) {
        const float x = float(column);
        float w0 = ((x1 - x) * (y2 - y) - (x2 - x) * (y1 - y)) * scale;
        float w1 = ((x2 - x) * (y0 - y) - (x0 - x) * (y2 - y)) * scale;
        float w2 = 1.0f - w0 - w1;
        if (w0 < 0.0f || w1 < 0.0f || w2 < 0.0f) continue;
        float z;
        if (p.orthographic) {
          z = w0 * d0 + w1 * d1 + w2 * d2;
        } else {
          z = 1.0f / (w0 * ia + w1 * ib + w2 * ic);
          w0 *= ia * z;
          w1 *= ib * z;
        }
        const int64_t pixel = int64_t(row) * width + column;
        if (z < p.depth[pixel]) {
          p.depth[pixel] = z;
          if (p.ids) {
            p.ids[pixel] = int32_t(t);
            p.barycentrics[pixel] = w0;
            p.barycentrics[pixels + pixel] = w1;
          }
        }
      }
    }
  }
}

}  // namespace GARFAST_ISA
}  // namespace garfast

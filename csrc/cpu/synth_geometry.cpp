// Blendshape sums, depth maps and dressed heads for synthetic faces.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "garfast/synth.h"
#include "garfast/vec3.h"
#include "synth_raster.h"

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
    // Eight rows at a time, so that the sum stays in registers for longer.
    constexpr size_t kRows = 8;
    size_t k = 0;
    for (; k + kRows <= rows.size(); k += kRows) {
      const int16_t* row[kRows];
      float weight[kRows];
      for (size_t j = 0; j < kRows; ++j) row[j] = rows[k + j] + start, weight[j] = weights[k + j];
      for (int64_t i = 0; i < count; ++i) {
        float sum = 0.0f;
        for (size_t j = 0; j < kRows; ++j) sum += weight[j] * float(row[j][i]);
        out[i] += sum;
      }
    }
    for (; k < rows.size(); ++k) {
      const int16_t* row = rows[k] + start;
      for (int64_t i = 0; i < count; ++i) out[i] += weights[k] * float(row[i]);
    }
  }
}

void synth_depth(const SynthDepthParams& p) {
  const Grid grid{p.front, nullptr, p.size, p.size};
  const std::unique_ptr<Corner[]> corners(new Corner[p.num_vertices]);
  project(p.positions, p.num_vertices, p.frame, Lens(p.camera, p.size, p.size, true), grid, corners.get());
  if (p.clear) std::fill_n(p.front, p.size * p.size, kNothing);
  draw_mesh<false>(corners.get(), p.triangles, p.num_triangles, p.cull, grid, nullptr);
}

void synth_head(const SynthHeadParams& p) {
  const float *r = p.rotation, *t = p.translation;
  for (int64_t i = 0; i < p.num_vertices; ++i) {
    const float x = p.vertices[3 * i], y = p.vertices[3 * i + 1], z = p.vertices[3 * i + 2];
    float* out = p.positions + 3 * i;
    for (int k = 0; k < 3; ++k) out[k] = r[3 * k] * x + r[3 * k + 1] * y + r[3 * k + 2] * z + t[k];
  }
  // One visit to each triangle, in order: a third of the products of gathering them per vertex.
  std::fill_n(p.normals, 3 * p.num_vertices, 0.0f);
  for (int64_t f = 0; f < p.num_triangles; ++f) {
    const int32_t* c = p.triangles + 3 * f;
    const Vec3<float> a = load3(p.positions + 3 * int64_t(c[0]));
    const Vec3<float> area =
        cross(load3(p.positions + 3 * int64_t(c[1])) - a, load3(p.positions + 3 * int64_t(c[2])) - a);
    for (int k = 0; k < 3; ++k) {
      float* normal = p.normals + 3 * int64_t(c[k]);
      store3(normal, load3(normal) + area);
    }
  }
  for (int64_t i = 0; i < p.num_vertices; ++i) {
    float* normal = p.normals + 3 * i;
    const Vec3<float> n = load3(normal);
    const float squared = dot(n, n);
    store3(normal, n * (squared > 0.0f ? 1.0f / std::sqrt(squared) : 0.0f));
  }
  constexpr int kSome = 128;
  float open[kSome];
  // Of the light around, the share that the head's own occlusion lets pass.
  const auto passing = [&](const float* planes, int64_t start, int count, float* share) {
    float arriving[2][kSome] = {};
    for (int side = 0; side < 2; ++side)
      for (int k = 0; k < 9; ++k) {
        const float* plane = planes + (9 * side + k) * p.plane_size + start;
        for (int i = 0; i < count; ++i) arriving[side][i] += p.light[k] * plane[i];
      }
    for (int i = 0; i < count; ++i)
      share[i] = std::min(std::max(arriving[0][i] / std::max(arriving[1][i], 0.05f), 0.02f), 1.0f);
  };
  for (int64_t start = 0; start < p.num_vertices; start += kSome) {
    const int count = int(std::min<int64_t>(kSome, p.num_vertices - start));
    passing(p.closed, start, count, open);
    if (p.mouth > 0.0f) {
      float wide[kSome];
      passing(p.opened, start, count, wide);
      for (int i = 0; i < count; ++i) open[i] += p.mouth * (wide[i] - open[i]);
    }
    std::copy_n(p.constants + kSynthAttributes * start, kSynthAttributes * count,
                p.attributes + kSynthAttributes * start);
    for (int i = 0; i < count; ++i) {
      float* out = p.attributes + kSynthAttributes * (start + i);
      out[10] = open[i];
      if (p.scalp) out[11] = p.scalp[start + i];
      if (p.beard) out[12] = p.beard[start + i];
      out[13] = p.broad[start + i];
      out[14] = p.fine[start + i];
    }
  }
}

}  // namespace GARFAST_ISA
}  // namespace garfast

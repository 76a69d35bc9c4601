// Blendshape sums, depth maps and dressed heads for synthetic faces.
#include <algorithm>
#include <cmath>
#include <memory>

#include "garfast/synth.h"
#include "garfast/vec3.h"
#include "synth_raster.h"

namespace garfast {
namespace GARFAST_ISA {

namespace {

// Rows of a basis that are added at once, so that a sum stays in registers for longer.
constexpr int64_t kRows = 8;

// Adds rows [first, last), at most kRows, to `count` numbers of kFaces faces. Every row is read once for all of them;
// a face's sums do not depend on how many there are.
template <int kFaces>
void add_rows(const SynthBlendParams& p, int64_t face, int64_t first, int64_t last, int64_t start, int64_t count) {
  const int16_t* row[kRows];
  float weight[kFaces][kRows];
  for (int64_t j = 0; j < kRows; ++j) {
    // Rows beyond the last one count 0 times.
    const int64_t k = std::min(first + j, last - 1);
    row[j] = p.basis + k * p.row_size + start;
    for (int f = 0; f < kFaces; ++f)
      weight[f][j] = first + j < last ? p.weights[(face + f) * p.num_rows + k] * p.step[k] : 0.0f;
  }
  float* out[kFaces];
  for (int f = 0; f < kFaces; ++f) out[f] = p.out + (face + f) * p.row_size + start;
  for (int64_t i = 0; i < count; ++i) {
    float value[kRows];
    for (int64_t j = 0; j < kRows; ++j) value[j] = float(row[j][i]);
    for (int f = 0; f < kFaces; ++f) {
      float sum = 0.0f;
      for (int64_t j = 0; j < kRows; ++j) sum += weight[f][j] * value[j];
      out[f][i] += sum;
    }
  }
}

}  // namespace

void synth_blend(const SynthBlendParams& p) {
  // Blocks that stay in the first cache while all rows are added to a few faces.
  constexpr int64_t kBlock = 1024;
  constexpr int64_t kTogether = 4;
  const auto counts = [&](int64_t first, int64_t last) {
    for (int64_t f = 0; f < p.num_faces; ++f)
      for (int64_t k = first; k < last; ++k)
        if (p.weights[f * p.num_rows + k] != 0.0f) return true;
    return false;
  };
  const std::unique_ptr<int64_t[]> groups(new int64_t[(p.num_rows + kRows - 1) / kRows]);
  int64_t num_groups = 0;
  for (int64_t k = 0; k < p.num_rows; k += kRows)
    if (counts(k, std::min(k + kRows, p.num_rows))) groups[num_groups++] = k;
  for (int64_t start = 0; start < p.size; start += kBlock) {
    const int64_t count = std::min(kBlock, p.size - start);
    for (int64_t f = 0; f < p.num_faces; ++f) std::copy_n(p.mean + start, count, p.out + f * p.row_size + start);
    for (int64_t g = 0; g < num_groups; ++g) {
      const int64_t k = groups[g], last = std::min(k + kRows, p.num_rows);
      int64_t f = 0;
      for (; f + kTogether <= p.num_faces; f += kTogether) add_rows<kTogether>(p, f, k, last, start, count);
      for (; f < p.num_faces; ++f) add_rows<1>(p, f, k, last, start, count);
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

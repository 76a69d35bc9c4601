// Blendshape sums and visibility for synthetic faces.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "garfast/synth.h"
#include "garfast/vec3.h"

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

namespace {

// A vertex as the sample grid sees it: four floats, so that one load fetches a corner of a triangle.
typedef float Corner __attribute__((vector_size(16)));
constexpr int kColumn = 0, kRow = 1, kInverse = 2, kDepth = 3;  // place in samples; 1 / depth, -1 behind the camera; -z

inline Corner smaller(Corner a, Corner b) { return a < b ? a : b; }
inline Corner larger(Corner a, Corner b) { return a > b ? a : b; }

// The samples that a bounding box holds.
struct Box {
  int32_t column0, column1, row0, row1;
};

// A triangle that may show, its samples, and the middles of pixels that its bounding box holds.
struct Candidate {
  int32_t triangle;
  Box samples, middles;
};

// Places of samples as places of the middles of blocks of 2x2 samples.
inline Corner in_middles(Corner c) { return c * 0.5f - 0.25f; }

// The box between two corners on a grid of which ``last`` is the last column and row; returns whether it holds
// anything.
inline bool boxed(Corner least, Corner most, Corner last, Box& out) {
  typedef int32_t Integers __attribute__((vector_size(16)));
  const Corner low = larger(least, Corner{0, 0, 0, 0}), high = smaller(most, last);
  // Conversion cuts off the fraction, which rounds these down, as they are not negative; -1 where that is below.
  const Integers down = __builtin_convertvector(low, Integers);
  const Integers from = down - (__builtin_convertvector(down, Corner) < low);
  const Integers to = __builtin_convertvector(high, Integers);
  out = {from[kColumn], to[kColumn], from[kRow], to[kRow]};
  return (high[kColumn] >= 0.0f) & (high[kRow] >= 0.0f) & (from[kColumn] <= to[kColumn]) & (from[kRow] <= to[kRow]);
}

constexpr int kBlock = 256;
constexpr int kNarrow = 8;
constexpr float kEdge = -1e-6f;  // samples on a shared edge belong to both triangles, so that no crack opens

// Where all vertices are in the sample grid, and the box around those in front of the camera: its least and its
// largest corner.
void project(const SynthVisibilityParams& p, Corner* corners, Corner* box) {
  const float half_width = 0.5f * float(p.width), half_height = 0.5f * float(p.height);
  const float scale_x = p.camera[0] * half_width, scale_y = -p.camera[1] * half_height;
  const float offset_x = (p.camera[2] + 1.0f) * half_width - 0.5f, offset_y = (1.0f - p.camera[3]) * half_height - 0.5f;
  constexpr float kFar = std::numeric_limits<float>::max();
  Corner least{kFar, kFar, kFar, kFar}, most = -least;
  for (int64_t i = 0; i < p.num_vertices; ++i) {
    float x = p.positions[3 * i], y = p.positions[3 * i + 1], z = p.positions[3 * i + 2];
    if (p.frame) {
      const float* f = p.frame;
      const float u = f[0] * x + f[1] * y + f[2] * z + f[3], v = f[4] * x + f[5] * y + f[6] * z + f[7];
      z = f[8] * x + f[9] * y + f[10] * z + f[11];
      x = u;
      y = v;
    }
    const bool in_front = p.orthographic || -z > 1.0f;
    const float w = p.orthographic ? 1.0f : 1.0f / (in_front ? -z : 1.0f);
    const Corner corner{x * scale_x * w + offset_x, y * scale_y * w + offset_y, in_front ? w : -1.0f, -z};
    corners[i] = corner;
    if (in_front) {
      least = smaller(least, corner);
      most = larger(most, corner);
    }
  }
  box[0] = least;
  box[1] = most;
}

// Those of a block of triangles that may show. Most triangles of a dense mesh face away or fall between samples; this
// pass without branches leaves them out.
template <bool kMiddles>
int candidates(const SynthVisibilityParams& p, const Corner* corners, int64_t first, int count, Candidate* out) {
  const Corner last{float(p.width - 1), float(p.height - 1), 0, 0};
  const Corner last_middle{float(p.width / 2 - 1), float(p.height / 2 - 1), 0, 0};
  int found = 0;
  for (int i = 0; i < count; ++i) {
    const int32_t* c = p.triangles + 3 * (first + i);
    const Corner a = corners[c[0]], b = corners[c[1]], d = corners[c[2]];
    const Corner ab = b - a, ad = d - a;
    // Rows run downward, so a counter-clockwise triangle has a negative area here.
    const float area = ab[kColumn] * ad[kRow] - ad[kColumn] * ab[kRow];
    const bool facing = p.cull ? area < 0.0f : area != 0.0f;
    const Corner least = smaller(smaller(a, b), d), most = larger(larger(a, b), d);
    Candidate& candidate = out[found];
    candidate.triangle = int32_t(first + i);
    bool holds = boxed(least, most, last, candidate.samples);
    if (kMiddles) holds |= boxed(in_middles(least), in_middles(most), last_middle, candidate.middles);
    found += facing & (least[kInverse] > 0.0f) & holds;
  }
  return found;
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

// The rows of a triangle in one grid; ``to`` is the third corner's place there.
inline void draw(const Weights& w, const Ends& ends, float to_column, float to_row, const Box& box, int32_t triangle,
                 int64_t width, int64_t pixels, float* depth, int32_t* ids, float* barycentrics) {
  const int count = box.column1 - box.column0 + 1;
  if (count <= 0) return;
  for (int row = box.row0; row <= box.row1; ++row) {
    const float dy = float(row) - to_row, dx = float(box.column0) - to_column;
    const int64_t pixel = row * width + box.column0;
    if (ids)
      draw_row<true>(w, ends, dx, dy, count, triangle, depth + pixel, ids + pixel, barycentrics + pixel,
                     barycentrics + pixels + pixel);
    else
      draw_row<false>(w, ends, dx, dy, count, triangle, depth + pixel, nullptr, nullptr, nullptr);
  }
}

// Clears rows and columns of a grid.
void clear(const SynthVisibilityParams& p, const int64_t* bounds, int64_t width, float* depth, int32_t* ids) {
  for (int64_t row = bounds[0]; row < bounds[1]; ++row) {
    const int64_t start = row * width + bounds[2], count = bounds[3] - bounds[2];
    if (p.clear) std::fill_n(depth + start, count, std::numeric_limits<float>::infinity());
    if (ids) std::fill_n(ids + start, count, -1);
  }
}

}  // namespace

void synth_visibility(const SynthVisibilityParams& p) {
  const int64_t pixels = p.height * p.width;
  const std::unique_ptr<Corner[]> corners(new Corner[p.num_vertices]);
  Corner box[2];
  project(p, corners.get(), box);
  int64_t bounds[4] = {0, p.height, 0, p.width};
  if (p.bounds) {
    // What the mesh cannot reach is not even cleared: most meshes cover a part of the picture. Pairs of samples stay
    // together, as the shading takes them.
    const auto from = [](float value, int64_t size) { return int64_t(std::clamp(value, 0.0f, float(size))) & ~1; };
    const auto to = [](float value, int64_t size) {
      return std::min((int64_t(std::clamp(value, -1.0f, float(size)) + 1.0f) + 1) & ~1, size);
    };
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t size = axis ? p.width : p.height;
      const int part = axis ? kColumn : kRow;
      bounds[2 * axis] = from(box[0][part], size);
      bounds[2 * axis + 1] = std::max(bounds[2 * axis], to(box[1][part], size));
    }
    std::copy_n(bounds, 4, p.bounds);
  }
  clear(p, bounds, p.width, p.depth, p.ids);
  if (p.middle_ids) {
    const int64_t half[4] = {bounds[0] / 2, bounds[1] / 2, bounds[2] / 2, bounds[3] / 2};
    clear(p, half, p.width / 2, p.middle_depth, p.middle_ids);
  }
  Candidate block[kBlock];
  for (int64_t first = 0; first < p.num_triangles; first += kBlock) {
    const int size = int(std::min<int64_t>(kBlock, p.num_triangles - first));
    const int found = p.middle_ids ? candidates<true>(p, corners.get(), first, size, block)
                                   : candidates<false>(p, corners.get(), first, size, block);
    for (int i = 0; i < found; ++i) {
      const int32_t triangle = block[i].triangle;
      const int32_t* c = p.triangles + 3 * int64_t(triangle);
      const Corner a = corners[c[0]], b = corners[c[1]], d = corners[c[2]];
      const Corner ab = b - a, ad = d - a, bd = b - d;
      const float scale = 1.0f / (ab[kColumn] * ad[kRow] - ad[kColumn] * ab[kRow]);
      // Depth is a ratio of linear functions of the sample's place; the barycentrics share its denominator.
      const Weights w{bd[kRow] * scale, -bd[kColumn] * scale, ad[kRow] * scale, -ad[kColumn] * scale};
      const Ends ends = p.orthographic ? Ends{a[kDepth], b[kDepth], d[kDepth], 1.0f, 1.0f, 1.0f}
                                       : Ends{1.0f, 1.0f, 1.0f, a[kInverse], b[kInverse], d[kInverse]};
      draw(w, ends, d[kColumn], d[kRow], block[i].samples, triangle, p.width, pixels, p.depth, p.ids, p.barycentrics);
      if (p.middle_ids) {
        const Corner third = in_middles(d);
        const Weights twice{2 * w.first_x, 2 * w.first_y, 2 * w.second_x, 2 * w.second_y};
        draw(twice, ends, third[kColumn], third[kRow], block[i].middles, triangle, p.width / 2, pixels / 4,
             p.middle_depth, p.middle_ids, p.middle_barycentrics);
      }
    }
  }
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

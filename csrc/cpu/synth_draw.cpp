// Draws one layer of a synthetic face: what its samples see, two a side, then one shading where all four see the same,
// eight shadings side by side.
#include <algorithm>
#include <cstring>
#include <memory>

#include "garfast/synth.h"
#include "garfast/synth_materials.h"
#include "synth_raster.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

// Eight points of one material.
struct Points {
  Vec position, normal;
  Lanes attributes[kSynthAttributes];
};

struct Colour {
  Vec rgb;
  Lanes opacity;
};

// Weights of the corners of eight triangles at a place of the grid each, and how near they are there.
struct Places {
  Lanes w0, w1, w2, near;

  // Places outside a triangle, between samples that see different triangles, count as the nearest inside.
  Places(const Corner* corners, const int32_t* const* triangles, Lanes columns, Lanes rows) {
    Lanes a[4], b[4], d[4];
    gather(corners, triangles, 0, a);
    gather(corners, triangles, 1, b);
    gather(corners, triangles, 2, d);
    const Weights<Lanes> w(a, b, d);
    const Lanes x = columns - d[kColumn], y = rows - d[kRow];
    const Lanes first = w.first(x, y), second = w.second(x, y);
    const Lanes u = larger(0.0f, first), v = larger(0.0f, second), s = larger(0.0f, 1.0f - first - second);
    near = (u * a[kNear] + v * b[kNear] + s * d[kNear]) / (u + v + s);
    const Lanes p0 = u * a[kInverse], p1 = v * b[kInverse], p2 = s * d[kInverse], ratio = 1.0f / (p0 + p1 + p2);
    w0 = p0 * ratio;
    w1 = p1 * ratio;
    w2 = p2 * ratio;
  }

  // Of the triangle in lane k. T: a number or a vector.
  template <typename T>
  T mean(int k, const T& a, const T& b, const T& d) const {
    return a * w0[k] + b * w1[k] + d * w2[k];
  }

  // The means of vertex normals [V, 3].
  Vec normal(const float* normals, const int32_t* const* triangles) const {
    Quad rows[kLanes];
    for (int k = 0; k < kLanes; ++k) {
      const auto at = [&](int j) {
        const float* n = normals + 3 * int64_t(triangles[k][j]);
        return Quad{n[0], n[1], n[2], 0.0f};
      };
      rows[k] = mean(k, at(0), at(1), at(2));
    }
    Lanes columns[4];
    transpose(rows, columns);
    return {columns[0], columns[1], columns[2]};
  }

 private:
  static void gather(const Corner* corners, const int32_t* const* triangles, int j, Lanes* columns) {
    Quad rows[kLanes];
    for (int k = 0; k < kLanes; ++k) rows[k] = corners[triangles[k][j]];
    transpose(rows, columns);
  }
};

// Samples of one pixel that are shaded as one point: those of ``group`` (bit k: sample k of the block), in the middle
// between the first and the last of them.
struct Spot {
  int64_t row, column;  // of the block's first sample
  int first, last, group;
};

// Points are gathered until eight of one material are there, or the layer ends, and shaded side by side. No sample
// belongs to two spots of a layer, so their order does not matter.
class Painter {
 public:
  Painter(const SynthDrawParams& p, const Lens& lens, const Corner* corners)
      : p_(p), shader_{p.parameters, p.noise, p.corners}, lens_(lens), corners_(corners), width_(2 * p.width) {}

  // ``box`` holds whole blocks of 2x2 samples.
  void paint(const Box& box) {
    for (int64_t row = box.row0; row < box.row1; row += 2)
      for (int64_t column = box.column0; column < box.column1; column += kLanes) blocks(row, column, box.column1);
    for (int material = 0; material < kMaterials; ++material) draw(uint8_t(material));
  }

 private:
  static constexpr int kMaterials = kSolid + 1;
  static constexpr uint8_t kNone = kMaterials;

  const SynthDrawParams& p_;
  const Shader shader_;
  const Lens& lens_;
  const Corner* corners_;
  const int64_t width_;
  Spot waiting_[kMaterials][kLanes];
  int count_[kMaterials] = {};

  int64_t sample(int64_t row, int64_t column, int k) const { return (row + (k >> 1)) * width_ + column + (k & 1); }

  // The four samples of a block.
  template <typename Four, typename T>
  Four block_of(const T* samples, int64_t first) const {
    typedef int64_t Halves __attribute__((vector_size(16)));
    int64_t above, below;  // in registers: what is stored in halves cannot at once be loaded as a whole
    std::memcpy(&above, samples + first, sizeof above);
    std::memcpy(&below, samples + first + width_, sizeof below);
    return reinterpret_cast<Four>(Halves{above, below});
  }

  // Which samples are less than so many mm apart in depth from another.
  QuadChoice close(Quad near, float other, float reach) const {
    const Quad apart = near - other, limit = lens_.orthographic ? reach - Quad{} : reach * other * near;
    return (apart < limit) & (-apart < limit);
  }

  void wait(uint8_t material, const Spot& spot) {
    waiting_[material][count_[material]++] = spot;
    if (count_[material] == kLanes) draw(material);
  }

  // Blocks side by side up to a column: most show nothing of a layer.
  void blocks(int64_t row, int64_t column, int64_t last) {
    // Never across the end of a row.
    const int64_t from = std::min(column, width_ - kLanes);
    const int past = int(std::max<int64_t>(from + kLanes - 1 - last, 0)), before = int(column - from);
    const int mine = (0xff >> past) & (0xff << before);
    int open[2];
    for (int k = 0; k < 2; ++k) {
      const int64_t start = (row + k) * width_ + from;
      open[k] = mine & bits_of((load_lanes(p_.layer_ids + start) >= 0) &
                               (load_lanes(p_.layer_near + start) > load_lanes(p_.near + start)));
    }
    for (int k = 0; open[0] | open[1]; k += 2, open[0] >>= 2, open[1] >>= 2)
      if (const int here = (open[0] & 3) | (open[1] & 3) << 2) block(row, from + k, here);
  }

  // Samples of one pixel that see the same smooth surface are shaded once, in their middle; eyes, whose detail is finer
  // than a pixel, sample by sample.
  void block(int64_t row, int64_t column, int open) {
    const int64_t start = sample(row, column, 0);
    const auto ids = block_of<QuadChoice>(p_.layer_ids, start);
    const Quad near = block_of<Quad>(p_.layer_near, start);
    const float reach = 4.0f * p_.parameters[kSynth_pixel_mm] + 1.0f;
    uint8_t materials[4];
    for (int k = 0; k < 4; ++k) materials[k] = open >> k & 1 ? p_.materials[ids[k]] : kNone;
    while (open) {
      const int k = __builtin_ctz(open);
      const uint8_t material = materials[k];
      int group = 1 << k;
      if (material != kEye) {
        const int same = (materials[0] == material) | (materials[1] == material) << 1 |
                         (materials[2] == material) << 2 | (materials[3] == material) << 3;
        group |= open & same & bits_of(close(near, near[k], reach));
      }
      open &= ~group;
      wait(material, {row, column, k, 31 - __builtin_clz(group), group});
    }
  }

  void draw(uint8_t material) {
    const int count = count_[material];
    if (!count) return;
    count_[material] = 0;
    Lanes columns, rows;
    const int32_t* triangles[kLanes];
    for (int k = 0; k < kLanes; ++k) {
      // Lanes without a spot of their own repeat the first.
      const Spot& spot = waiting_[material][k < count ? k : 0];
      const int first = spot.first, last = spot.last;
      columns[k] = float(spot.column) + 0.5f * float((first & 1) + (last & 1));
      rows[k] = float(spot.row) + 0.5f * float((first >> 1) + (last >> 1));
      triangles[k] = p_.triangles + 3 * int64_t(p_.layer_ids[sample(spot.row, spot.column, first)]);
    }
    const Places places(corners_, triangles, columns, rows);
    Points points;
    points.position = lens_.unproject(columns, rows, places.near);
    points.normal = places.normal(p_.normals, triangles);
    static_assert(kSynthAttributes % kLanes == 0);
    for (int i = 0; i < kSynthAttributes; i += kLanes) {
      Lanes means[kLanes];
      for (int k = 0; k < kLanes; ++k) {
        const auto at = [&](int j) {
          return load_lanes(p_.attributes + kSynthAttributes * int64_t(triangles[k][j]) + i);
        };
        means[k] = places.mean(k, at(0), at(1), at(2));
      }
      transpose(means, points.attributes + i);
    }
    const Colour colour = shade(points, material);
    const Lanes channels[4] = {colour.rgb.x, colour.rgb.y, colour.rgb.z, lanes(1.0f)};
    Quad given[kLanes];
    transpose_back(channels, given);
    for (int k = 0; k < count; ++k) {
      const float opacity = colour.opacity[k];
      if (opacity < 0.004f) continue;
      const Spot& spot = waiting_[material][k];
      for (int j = spot.first; j <= spot.last; ++j)
        if (spot.group >> j & 1) put(sample(spot.row, spot.column, j), given[k], opacity);
    }
  }

  void put(int64_t sample, Quad given, float opacity) {
    float* out = p_.frame + 4 * sample;
    Quad shown = given;
    if (opacity < 1.0f) {  // otherwise there is no need to wait for what is there
      std::memcpy(&shown, out, sizeof shown);
      shown += (given - shown) * opacity;
    }
    std::memcpy(out, &shown, sizeof shown);
    if (opacity > 0.5f) p_.near[sample] = p_.layer_near[sample];
  }

  // Share of the key light that reaches points, from the shadow map, softened over 3x3 texels; those that do not
  // ``ask`` get none.
  Lanes lit(Vec x, Choice ask) const {
    if (!p_.shadow) return ask ? lanes(1.0f) : lanes(0.0f);
    const float* q = p_.parameters;
    const Lanes u = q[kSynth_map_xx] * x.x + q[kSynth_map_xy] * x.y + q[kSynth_map_xz] * x.z + q[kSynth_map_x0];
    const Lanes v = q[kSynth_map_yx] * x.x + q[kSynth_map_yy] * x.y + q[kSynth_map_yz] * x.z + q[kSynth_map_y0];
    const Lanes z = q[kSynth_map_zx] * x.x + q[kSynth_map_zy] * x.y + q[kSynth_map_zz] * x.z + q[kSynth_map_z0];
    const int size = int(p_.shadow_size);
    const Lanes fu = rounded_down(u), fv = rounded_down(v), tu = u - fu, tv = v - fv;
    Lanes out = lanes(0.0f);
    for (int k = 0; k < kLanes; ++k) {
      if (!ask[k]) continue;
      out[k] = 1.0f;
      const int iu = int(fu[k]), iv = int(fv[k]);
      if (iu < 1 || iv < 1 || iu + 2 >= size || iv + 2 >= size) continue;
      const float wv[4] = {1 - tv[k], 1, 1, tv[k]};
      const float* texels = p_.shadow + int64_t(iv - 1) * size + iu - 1;
      Corner free{0, 0, 0, 0};
      for (int j = 0; j < 4; ++j) {
        Corner row;
        std::memcpy(&row, texels + j * size, sizeof row);
        free += row < z[k] ? wv[j] - Corner{} : Corner{};
      }
      const float share = free[0] * (1 - tu[k]) + free[1] + free[2] + free[3] * tu[k];
      out[k] = 1.0f - q[kSynth_shadow_on] * (1.0f - share * (1.0f / 9.0f));
    }
    return out;
  }

  static Lanes highlight(Lanes cosine, Lanes exponent) {
    // Blinn's cos^n as exp(-n (1 - cos)), normalised so that the energy does not grow with the gloss.
    return (exponent + 2.0f) * 0.125f * falloff(exponent * (1.0f - cosine));
  }

  Vec light(const Surface& s, Vec view, Vec direction, Vec colour, Lanes free) const {
    const Lanes cosine = dot(s.normal, direction);
    const Vec half = unit(view + direction);
    if (s.hair) {
      // Kajiya and Kay: a strand scatters by the sine of its angle to the light, and shines by that to the half vector.
      const Lanes along = dot(s.strand, direction), shine = dot(s.strand, half);
      const Lanes diffuse = root(larger(0.0f, 1.0f - along * along)) * clamp01(0.35f + 0.75f * cosine);
      const Lanes sine = root(larger(0.0f, 1.0f - shine * shine));
      const Lanes gloss = highlight(sine, s.gloss) * clamp01(0.2f + cosine);
      return mul(colour,
                 s.albedo * (0.8f * diffuse) + (s.albedo + vec(0.1f, 0.1f, 0.1f)) * (0.35f * s.specular * gloss)) *
             free;
    }
    // Red travels furthest under the skin, so the terminator is soft and warm.
    const float wrap[3] = {s.wrap, 0.45f * s.wrap, 0.3f * s.wrap};
    Lanes diffuse[3];
    for (int k = 0; k < 3; ++k)
      diffuse[k] = larger(0.0f, (cosine + wrap[k]) * (1.0f / ((1.0f + wrap[k]) * (1.0f + wrap[k]))));
    const Lanes soft = free + (1.0f - free) * (0.12f * s.wrap);
    const Vec matte = mul(s.albedo, {diffuse[0] * soft, diffuse[1] * free, diffuse[2] * free});
    const Lanes grazing = 1.0f - larger(0.0f, dot(view, half));
    const Lanes g2 = grazing * grazing;
    const Lanes fresnel = s.specular + (1.0f - s.specular) * g2 * g2 * grazing;
    const Lanes gloss = fresnel * highlight(larger(0.0f, dot(s.normal, half)), s.gloss) * larger(0.0f, cosine) * free;
    return mul(colour, matte + Vec{gloss, gloss, gloss});
  }

  Surface surface(Vec n, const Lanes* attributes, uint8_t material) const {
    switch (material) {
      case kSkin:
        return shader_.skin(n, attributes);
      case kEye:
        return shader_.eye(n, attributes);
      case kTeeth:
        return shader_.inside(n, attributes, true);
      case kMouth:
        return shader_.inside(n, attributes, false);
      case kHair:
        return shader_.hair(n, attributes);
      default:
        return shader_.solid(n, attributes);
    }
  }

  Colour shade(const Points& points, uint8_t material) const {
    const float* q = p_.parameters;
    const Vec view = q[kSynth_orthographic] > 0.5f ? vec(0, 0, 1) : unit(points.position * -1.0f);
    Vec n = unit(points.normal);
    const Lanes toward = dot(n, view);
    if (any(toward < 0.0f)) {
      // Sheets have two sides; a closed surface that seems to face away is seen edge-on.
      const Vec turned = material == kHair || material == kSolid ? n * -1.0f : unit(n - view * (toward - 0.02f));
      const Choice away = toward < 0.0f;
      n = {away ? turned.x : n.x, away ? turned.y : n.y, away ? turned.z : n.z};
    }
    const Surface s = surface(n, points.attributes, material);
    if (!any(s.opacity >= 0.004f)) return {vec(0, 0, 0), lanes(0.0f)};
    const Vec key = shader_.rgb(kSynth_key_x), rim = shader_.rgb(kSynth_rim_x);
    // No need to look up the shadow of what faces away from the key light.
    const Lanes free = lit(points.position + n * 1.5f, dot(s.normal, key) > -s.wrap);
    Vec colour = light(s, view, key, shader_.rgb(kSynth_key_r), free);
    if (q[kSynth_rim_g] > 0.0f)
      colour = colour + light(s, view, rim, shader_.rgb(kSynth_rim_r), s.openness * s.openness);
    // Light that bounced off skin before it arrives is redder.
    const Lanes open = s.openness;
    const Vec reach =
        s.wrap > 0.2f && !s.hair ? Vec{root(open), open, open * (0.9f + 0.1f * open)} : Vec{open, open, open};
    const Vec around = mul(irradiance(p_.ambient, n), reach);
    colour = colour + mul(s.albedo, around);
    const Lanes facing = dot(s.normal, view), edge = 1.0f - larger(0.0f, facing);
    const Vec mirror = s.normal * (2.0f * facing) - view;
    const Lanes sheen = (s.specular + (0.5f - 0.5f * s.specular) * edge * edge * edge * edge * edge) * open * open;
    colour = colour + mul(reflected(p_.ambient, mirror), {sheen, sheen, sheen}) * (s.hair ? 0.3f : 0.8f);
    if (material == kEye) {
      // A window or a lamp mirrored in the cornea.
      const Lanes dx = magnitude(mirror.x - q[kSynth_catch_x]), dy = magnitude(mirror.y - q[kSynth_catch_y]);
      const Lanes spot = ramp(1.3f * q[kSynth_catch_size], 0.7f * q[kSynth_catch_size], larger(dx, dy));
      const Lanes shine = q[kSynth_catchlight] * spot * (mirror.z > 0.0f ? open : lanes(0.0f));
      colour = colour + Vec{shine, shine, shine};
    }
    return {colour, s.opacity};
  }
};

// The normals that the middles of pixels see.
void map_normals(const SynthDrawParams& p, const Corner* corners, const Grid& middles) {
  const int64_t pixels = middles.width * middles.height;
  std::fill_n(p.normal_map, 3 * pixels, 0.0f);
  int64_t waiting[kLanes];
  int count = 0;
  const auto map = [&] {
    Lanes columns, rows;
    const int32_t* triangles[kLanes];
    for (int k = 0; k < kLanes; ++k) {
      const int64_t i = waiting[k < count ? k : 0];  // lanes without a pixel of their own repeat the first
      columns[k] = 2.0f * float(i % middles.width) + 0.5f;
      rows[k] = 2.0f * float(i / middles.width) + 0.5f;
      triangles[k] = p.triangles + 3 * int64_t(middles.ids[i]);
    }
    const Vec n = Places(corners, triangles, columns, rows).normal(p.normals, triangles);
    const Lanes length = root(dot(n, n)), scale = 1.0f / length;
    // Vertex normals of a crease may cancel; such a pixel faces the camera.
    const Choice cancelled = length < 1e-6f;
    const Vec unit{cancelled ? lanes(0.0f) : n.x * scale, cancelled ? lanes(0.0f) : n.y * scale,
                   cancelled ? lanes(1.0f) : n.z * scale};
    for (int k = 0; k < count; ++k) {
      p.normal_map[waiting[k]] = unit.x[k];
      p.normal_map[pixels + waiting[k]] = unit.y[k];
      p.normal_map[2 * pixels + waiting[k]] = unit.z[k];
    }
    count = 0;
  };
  for (int64_t i = 0; i < pixels; ++i) {
    p.mask[i] = middles.ids[i] >= 0;
    if (!p.mask[i]) continue;
    waiting[count++] = i;
    if (count == kLanes) map();
  }
  if (count) map();
}

}  // namespace

void synth_draw(const SynthDrawParams& p) {
  const Grid samples{p.layer_near, p.layer_ids, 2 * p.width, 2 * p.height};
  const Lens lens(p.camera, samples.width, samples.height, p.parameters[kSynth_orthographic] > 0.5f);
  const std::unique_ptr<Corner[]> corners(new Corner[p.num_vertices]);
  Box box = project(p.positions, p.num_vertices, nullptr, lens, samples, corners.get());
  // What the mesh cannot reach is not even cleared. Whole blocks of 2x2 samples are.
  box = {box.column0 & ~1, box.column1 | 1, box.row0 & ~1, box.row1 | 1};
  samples.clear(box);
  if (p.normal_map) {
    const int64_t pixels = p.height * p.width;
    const std::unique_ptr<float[]> near(new float[pixels]);
    const std::unique_ptr<int32_t[]> ids(new int32_t[pixels]);
    const Grid middles{near.get(), ids.get(), p.width, p.height};
    middles.clear({0, int32_t(p.width) - 1, 0, int32_t(p.height) - 1});
    draw_mesh<true>(corners.get(), p.triangles, p.num_triangles, p.cull, samples, &middles);
    map_normals(p, corners.get(), middles);
  } else {
    draw_mesh<true>(corners.get(), p.triangles, p.num_triangles, p.cull, samples, nullptr);
  }
  Painter(p, lens, corners.get()).paint(box);
}

}  // namespace GARFAST_ISA
}  // namespace garfast

// Draws one layer of a synthetic face: what its samples see, two a side, then one shading where all four see the same,
// eight shadings side by side.
#include <algorithm>
#include <cmath>
#include <memory>

#include "garfast/synth.h"
#include "garfast/synth_materials.h"
#include "garfast/vec3.h"
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

// Weights of a triangle's corners at a place of the grid, and how near it is there.
struct Place {
  float w0, w1, w2, near;

  // Places outside the triangle, between samples that see different triangles, count as the nearest inside.
  Place(const Corner* corners, const int32_t* c, float column, float row) {
    const Corner a = corners[c[0]], b = corners[c[1]], d = corners[c[2]];
    const Weights w(a, b, d);
    const float x = column - d[kColumn], y = row - d[kRow];
    const float u = std::max(w.first(x, y), 0.0f), v = std::max(w.second(x, y), 0.0f);
    const float s = std::max(1.0f - w.first(x, y) - w.second(x, y), 0.0f), whole = 1.0f / (u + v + s);
    near = (u * a[kNear] + v * b[kNear] + s * d[kNear]) * whole;
    const float p0 = u * a[kInverse], p1 = v * b[kInverse], p2 = s * d[kInverse], ratio = 1.0f / (p0 + p1 + p2);
    w0 = p0 * ratio;
    w1 = p1 * ratio;
    w2 = p2 * ratio;
  }

  template <typename T>
  T mean(const T& a, const T& b, const T& d) const {
    return a * w0 + b * w1 + d * w2;
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

  void paint(const Box& box) {
    // Blocks are two samples wide.
    for (int64_t row = box.row0 & ~1; row <= box.row1; row += 2)
      for (int64_t column = box.column0 & ~1; column <= box.column1; column += 2) block(row, column);
    for (int material = 0; material < kMaterials; ++material) draw(uint8_t(material));
  }

 private:
  static constexpr int kMaterials = kSolid + 1;

  const SynthDrawParams& p_;
  const Shader shader_;
  const Lens& lens_;
  const Corner* corners_;
  const int64_t width_;
  Spot waiting_[kMaterials][kLanes];
  int count_[kMaterials] = {};

  int64_t sample(int64_t row, int64_t column, int k) const { return (row + (k >> 1)) * width_ + column + (k & 1); }
  bool visible(int64_t sample) const { return p_.layer_ids[sample] >= 0 && p_.layer_near[sample] > p_.near[sample]; }

  // Whether two samples are less than so many mm apart in depth.
  bool close(float near, float other, float reach) const {
    return std::fabs(near - other) < (lens_.orthographic ? reach : reach * near * other);
  }

  // Samples of one pixel that see the same smooth surface are shaded once, in their middle; eyes, whose detail is finer
  // than a pixel, sample by sample.
  void block(int64_t row, int64_t column) {
    const float reach = 4.0f * p_.parameters[kSynth_pixel_mm] + 1.0f;
    bool open[4];
    for (int k = 0; k < 4; ++k) open[k] = visible(sample(row, column, k));
    for (int k = 0; k < 4; ++k) {
      if (!open[k]) continue;
      const int64_t first = sample(row, column, k);
      const uint8_t material = p_.materials[p_.layer_ids[first]];
      Spot spot{row, column, k, k, 1 << k};
      for (int j = k + 1; j < 4 && material != kEye; ++j) {
        const int64_t other = sample(row, column, j);
        if (open[j] && p_.materials[p_.layer_ids[other]] == material &&
            close(p_.layer_near[first], p_.layer_near[other], reach)) {
          spot.group |= 1 << j;
          spot.last = j;
          open[j] = false;
        }
      }
      waiting_[material][count_[material]++] = spot;
      if (count_[material] == kLanes) draw(material);
    }
  }

  void draw(uint8_t material) {
    const int count = count_[material];
    if (!count) return;
    count_[material] = 0;
    Points points;
    Lanes columns, rows, near;
    for (int k = 0; k < kLanes; ++k) {
      // Lanes without a spot of their own repeat the first.
      const Spot& spot = waiting_[material][k < count ? k : 0];
      const int first = spot.first, last = spot.last;
      columns[k] = float(spot.column) + 0.5f * float((first & 1) + (last & 1));
      rows[k] = float(spot.row) + 0.5f * float((first >> 1) + (last >> 1));
      const int32_t* c = p_.triangles + 3 * int64_t(p_.layer_ids[sample(spot.row, spot.column, first)]);
      const Place place(corners_, c, columns[k], rows[k]);
      near[k] = place.near;
      Lanes halves[kSynthAttributes / kLanes];
      for (int half = 0; half < kSynthAttributes / kLanes; ++half) {
        Lanes at[3];
        for (int j = 0; j < 3; ++j)
          std::memcpy(&at[j], p_.attributes + kSynthAttributes * int64_t(c[j]) + kLanes * half, sizeof at[j]);
        halves[half] = place.mean(at[0], at[1], at[2]);
      }
      for (int i = 0; i < kSynthAttributes; ++i) points.attributes[i][k] = halves[i / kLanes][i % kLanes];
      const float *a = p_.normals + 3 * int64_t(c[0]), *b = p_.normals + 3 * int64_t(c[1]),
                  *d = p_.normals + 3 * int64_t(c[2]);
      points.normal.x[k] = place.mean(a[0], b[0], d[0]);
      points.normal.y[k] = place.mean(a[1], b[1], d[1]);
      points.normal.z[k] = place.mean(a[2], b[2], d[2]);
    }
    points.position = lens_.unproject(columns, rows, near);
    const Colour colour = shade(points, material);
    for (int k = 0; k < count; ++k) {
      if (colour.opacity[k] < 0.004f) continue;
      const Spot& spot = waiting_[material][k];
      for (int j = spot.first; j < 4; ++j)
        if (spot.group >> j & 1) put(sample(spot.row, spot.column, j), colour, k);
    }
  }

  void put(int64_t sample, const Colour& colour, int lane) {
    const float opacity = colour.opacity[lane];
    const Corner given{colour.rgb.x[lane], colour.rgb.y[lane], colour.rgb.z[lane], 1.0f};
    float* out = p_.frame + 4 * sample;
    Corner shown = given;
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
  for (int64_t row = 0; row < middles.height; ++row)
    for (int64_t column = 0; column < middles.width; ++column) {
      const int64_t i = row * middles.width + column;
      p.mask[i] = middles.ids[i] >= 0;
      if (!p.mask[i]) continue;
      const int32_t* c = p.triangles + 3 * int64_t(middles.ids[i]);
      const Place place(corners, c, 2.0f * float(column) + 0.5f, 2.0f * float(row) + 0.5f);
      const auto normal = [&](int k) { return load3(p.normals + 3 * int64_t(c[k])); };
      Vec3<float> n = place.mean(normal(0), normal(1), normal(2));
      const float length = std::sqrt(dot(n, n));
      // Vertex normals of a crease may cancel; such a pixel faces the camera.
      n = length < 1e-6f ? Vec3<float>{0, 0, 1} : n * (1.0f / length);
      p.normal_map[i] = n.x;
      p.normal_map[pixels + i] = n.y;
      p.normal_map[2 * pixels + i] = n.z;
    }
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

// Deferred shading of one layer of a synthetic face: two samples a side, one shading where all four see the same, eight
// shadings side by side.
#include <algorithm>
#include <cmath>

#include "garfast/synth.h"
#include "garfast/synth_materials.h"

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

// Samples of one pixel that are shaded as one point: those of ``group`` (bit k: sample k of the block), in the middle
// between the first and the last of them.
struct Spot {
  int64_t corner;
  int first, last, group;
};

// Points are gathered until eight of one material are there, or the layer ends, and shaded side by side. No sample
// belongs to two spots of a layer, so their order does not matter.
class Painter {
 public:
  explicit Painter(const SynthShadeParams& p) : p_(p), shader_{p.parameters, p.noise}, width_(2 * p.width) {}

  void paint() {
    // Bounds are of samples, blocks are two samples wide.
    for (int64_t row = p_.bounds[0] / 2; 2 * row < p_.bounds[1]; ++row)
      for (int64_t column = p_.bounds[2] / 2; 2 * column < p_.bounds[3]; ++column)
        block((2 * row) * width_ + 2 * column);
    for (int material = 0; material < kMaterials; ++material) draw(uint8_t(material));
  }

 private:
  static constexpr int kMaterials = kSolid + 1;

  const SynthShadeParams& p_;
  const Shader shader_;
  const int64_t width_;
  Spot waiting_[kMaterials][kLanes];
  int count_[kMaterials] = {};

  int64_t sample(int64_t corner, int k) const { return corner + (k & 1) + (k >> 1) * width_; }
  bool visible(int64_t sample) const { return p_.ids[sample] >= 0 && p_.depth[sample] < p_.frame_depth[sample]; }

  // Samples of one pixel that see the same smooth surface are shaded once, in their middle; eyes, whose detail is finer
  // than a pixel, sample by sample.
  void block(int64_t corner) {
    const float reach = 4.0f * p_.parameters[kSynth_pixel_mm] + 1.0f;
    bool open[4];
    for (int k = 0; k < 4; ++k) open[k] = visible(sample(corner, k));
    for (int k = 0; k < 4; ++k) {
      if (!open[k]) continue;
      const int64_t first = sample(corner, k);
      const uint8_t material = p_.materials[p_.ids[first]];
      Spot spot{corner, k, k, 1 << k};
      for (int j = k + 1; j < 4 && material != kEye; ++j) {
        const int64_t other = sample(corner, j);
        if (open[j] && p_.materials[p_.ids[other]] == material &&
            std::fabs(p_.depth[other] - p_.depth[first]) < reach) {
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
    for (int k = 0; k < kLanes; ++k) {
      // Lanes without a spot of their own repeat the first.
      const Spot& spot = waiting_[material][k < count ? k : 0];
      float values[kValues];
      fetch(sample(spot.corner, spot.first), values);
      if (spot.last != spot.first) {
        float other[kValues];
        fetch(sample(spot.corner, spot.last), other);
        for (int i = 0; i < kValues; ++i) values[i] = 0.5f * (values[i] + other[i]);
      }
      for (int i = 0; i < kSynthAttributes; ++i) points.attributes[i][k] = values[i];
      const float* at = values + kSynthAttributes;
      points.position.x[k] = at[0], points.position.y[k] = at[1], points.position.z[k] = at[2];
      points.normal.x[k] = at[3], points.normal.y[k] = at[4], points.normal.z[k] = at[5];
    }
    const Colour colour = shade(points, material);
    for (int k = 0; k < count; ++k) {
      if (colour.opacity[k] < 0.004f) continue;
      const Spot& spot = waiting_[material][k];
      for (int j = spot.first; j < 4; ++j)
        if (spot.group >> j & 1) put(sample(spot.corner, j), colour, k);
    }
  }

  // What a triangle's corners say of a sample: attributes, position, normal.
  static constexpr int kValues = kSynthAttributes + 6;
  void fetch(int64_t sample, float* out) const {
    const int32_t* c = p_.triangles + 3 * int64_t(p_.ids[sample]);
    const float w0 = p_.barycentrics[sample], w1 = p_.barycentrics[4 * p_.height * p_.width + sample];
    const float w2 = 1.0f - w0 - w1;
    const auto blend = [&](const float* values, int count, float* into) {
      const float *a = values + count * int64_t(c[0]), *b = values + count * int64_t(c[1]),
                  *d = values + count * int64_t(c[2]);
      for (int k = 0; k < count; ++k) into[k] = w0 * a[k] + w1 * b[k] + w2 * d[k];
    };
    blend(p_.attributes, kSynthAttributes, out);
    blend(p_.positions, 3, out + kSynthAttributes);
    blend(p_.normals, 3, out + kSynthAttributes + 3);
  }

  void put(int64_t sample, const Colour& colour, int lane) {
    const float opacity = colour.opacity[lane], keep = 1.0f - opacity;
    float* out = p_.frame + 4 * sample;
    out[0] = out[0] * keep + colour.rgb.x[lane] * opacity;
    out[1] = out[1] * keep + colour.rgb.y[lane] * opacity;
    out[2] = out[2] * keep + colour.rgb.z[lane] * opacity;
    out[3] = out[3] * keep + opacity;
    if (opacity > 0.5f) p_.frame_depth[sample] = p_.depth[sample];
  }

  // Share of the key light that reaches points, from the shadow map, softened over 3x3 texels; those that do not
  // ``ask`` get none.
  Lanes lit(Vec x, Choice ask) const {
    if (!p_.shadow) return ask ? lanes(1.0f) : lanes(0.0f);
    const float* q = p_.parameters;
    const Lanes u = q[kSynth_map_xx] * x.x + q[kSynth_map_xy] * x.y + q[kSynth_map_xz] * x.z + q[kSynth_map_x0];
    const Lanes v = q[kSynth_map_yx] * x.x + q[kSynth_map_yy] * x.y + q[kSynth_map_yz] * x.z + q[kSynth_map_y0];
    const Lanes d = q[kSynth_map_dx] * x.x + q[kSynth_map_dy] * x.y + q[kSynth_map_dz] * x.z - q[kSynth_shadow_bias];
    const int size = int(p_.shadow_size);
    const Lanes fu = rounded_down(u), fv = rounded_down(v), tu = u - fu, tv = v - fv;
    Lanes out = lanes(0.0f);
    for (int k = 0; k < kLanes; ++k) {
      if (!ask[k]) continue;
      out[k] = 1.0f;
      const int iu = int(fu[k]), iv = int(fv[k]);
      if (iu < 1 || iv < 1 || iu + 2 >= size || iv + 2 >= size) continue;
      const float wu[4] = {1 - tu[k], 1, 1, tu[k]}, wv[4] = {1 - tv[k], 1, 1, tv[k]};
      const float* texels = p_.shadow + int64_t(iv - 1) * size + iu - 1;
      float free = 0.0f;
      for (int j = 0; j < 4; ++j)
        for (int i = 0; i < 4; ++i) free += texels[j * size + i] > d[k] ? wu[i] * wv[j] : 0.0f;
      out[k] = 1.0f - q[kSynth_shadow_on] * (1.0f - free * (1.0f / 9.0f));
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

}  // namespace

void synth_shade(const SynthShadeParams& p) { Painter(p).paint(); }

}  // namespace GARFAST_ISA
}  // namespace garfast

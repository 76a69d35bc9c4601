// Deferred shading of one layer of a synthetic face: two samples a side, one shading where all four see the same.
#include <algorithm>
#include <cmath>

#include "garfast/synth.h"
#include "garfast/synth_materials.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

struct Point {
  Vec position, normal;
  float attributes[kSynthAttributes];
};

struct Colour {
  Vec rgb;
  float opacity;
};

class Painter {
 public:
  explicit Painter(const SynthShadeParams& p) : p_(p), shader_{p.parameters, p.noise} {}

  void paint() {
    const int64_t width = 2 * p_.width;
    // Bounds are of samples, blocks are two samples wide.
    for (int64_t row = p_.bounds[0] / 2; 2 * row < p_.bounds[1]; ++row)
      for (int64_t column = p_.bounds[2] / 2; 2 * column < p_.bounds[3]; ++column)
        block((2 * row) * width + 2 * column, width);
  }

 private:
  const SynthShadeParams& p_;
  const Shader shader_;

  bool visible(int64_t sample) const { return p_.ids[sample] >= 0 && p_.depth[sample] < p_.frame_depth[sample]; }

  // Samples of one pixel that see the same smooth surface are shaded once, in their middle; eyes, whose detail is finer
  // than a pixel, sample by sample.
  void block(int64_t corner, int64_t width) {
    const int64_t samples[4] = {corner, corner + 1, corner + width, corner + width + 1};
    const float reach = 4.0f * p_.parameters[kSynth_pixel_mm] + 1.0f;
    bool open[4];
    for (int k = 0; k < 4; ++k) open[k] = visible(samples[k]);
    for (int k = 0; k < 4; ++k) {
      if (!open[k]) continue;
      const uint8_t material = p_.materials[p_.ids[samples[k]]];
      bool group[4] = {false, false, false, false};
      group[k] = true;
      int last = k;
      for (int j = k + 1; j < 4 && material != kEye; ++j)
        if (open[j] && p_.materials[p_.ids[samples[j]]] == material &&
            std::fabs(p_.depth[samples[j]] - p_.depth[samples[k]]) < reach) {
          group[j] = true;
          last = j;
        }
      Point point;
      fetch(samples[k], point);
      if (last != k) {
        Point other;
        fetch(samples[last], other);
        point.position = (point.position + other.position) * 0.5f;
        point.normal = point.normal + other.normal;
        for (int c = 0; c < kSynthAttributes; ++c)
          point.attributes[c] = 0.5f * (point.attributes[c] + other.attributes[c]);
      }
      const Colour colour = shade(point, material);
      for (int j = k; j < 4; ++j)
        if (group[j]) {
          put(samples[j], colour);
          open[j] = false;
        }
    }
  }

  void fetch(int64_t sample, Point& out) const {
    const int32_t* c = p_.triangles + 3 * int64_t(p_.ids[sample]);
    const float w0 = p_.barycentrics[sample], w1 = p_.barycentrics[4 * p_.height * p_.width + sample];
    const float w2 = 1.0f - w0 - w1;
    out.position = load3(p_.positions + 3 * int64_t(c[0])) * w0 + load3(p_.positions + 3 * int64_t(c[1])) * w1 +
                   load3(p_.positions + 3 * int64_t(c[2])) * w2;
    out.normal = load3(p_.normals + 3 * int64_t(c[0])) * w0 + load3(p_.normals + 3 * int64_t(c[1])) * w1 +
                 load3(p_.normals + 3 * int64_t(c[2])) * w2;
    const float* a = p_.attributes + kSynthAttributes * int64_t(c[0]);
    const float* b = p_.attributes + kSynthAttributes * int64_t(c[1]);
    const float* d = p_.attributes + kSynthAttributes * int64_t(c[2]);
    for (int k = 0; k < kSynthAttributes; ++k) out.attributes[k] = w0 * a[k] + w1 * b[k] + w2 * d[k];
  }

  void put(int64_t sample, const Colour& colour) {
    if (colour.opacity < 0.004f) return;
    float* out = p_.frame + 4 * sample;
    const float keep = 1.0f - colour.opacity;
    out[0] = out[0] * keep + colour.rgb.x * colour.opacity;
    out[1] = out[1] * keep + colour.rgb.y * colour.opacity;
    out[2] = out[2] * keep + colour.rgb.z * colour.opacity;
    out[3] = out[3] * keep + colour.opacity;
    if (colour.opacity > 0.5f) p_.frame_depth[sample] = p_.depth[sample];
  }

  // Share of the key light that reaches a point, from the shadow map, softened over 3x3 texels.
  float lit(Vec x) const {
    if (!p_.shadow) return 1.0f;
    const float* q = p_.parameters;
    const float u = q[kSynth_map_xx] * x.x + q[kSynth_map_xy] * x.y + q[kSynth_map_xz] * x.z + q[kSynth_map_x0];
    const float v = q[kSynth_map_yx] * x.x + q[kSynth_map_yy] * x.y + q[kSynth_map_yz] * x.z + q[kSynth_map_y0];
    const float d = q[kSynth_map_dx] * x.x + q[kSynth_map_dy] * x.y + q[kSynth_map_dz] * x.z - q[kSynth_shadow_bias];
    const int size = int(p_.shadow_size);
    const float fu = std::floor(u), fv = std::floor(v);
    const int iu = int(fu), iv = int(fv);
    if (iu < 1 || iv < 1 || iu + 2 >= size || iv + 2 >= size) return 1.0f;
    const float tu = u - fu, tv = v - fv;
    const float wu[4] = {1 - tu, 1, 1, tu}, wv[4] = {1 - tv, 1, 1, tv};
    float free = 0.0f;
    for (int j = 0; j < 4; ++j)
      for (int i = 0; i < 4; ++i)
        if (p_.shadow[int64_t(iv - 1 + j) * size + iu - 1 + i] > d) free += wu[i] * wv[j];
    return 1.0f - q[kSynth_shadow_on] * (1.0f - free * (1.0f / 9.0f));
  }

  static float highlight(float cosine, float exponent) {
    // Blinn's cos^n as exp(-n (1 - cos)), normalised so that the energy does not grow with the gloss.
    return (exponent + 2.0f) * 0.125f * falloff(exponent * (1.0f - cosine));
  }

  Vec light(const Surface& s, Vec view, Vec direction, Vec colour, float free) const {
    const float cosine = dot(s.normal, direction);
    const Vec half = unit(view + direction);
    if (s.hair) {
      // Kajiya and Kay: a strand scatters by the sine of its angle to the light, and shines by that to the half vector.
      const float along = dot(s.strand, direction), shine = dot(s.strand, half);
      const float diffuse = std::sqrt(std::max(0.0f, 1.0f - along * along)) * clamp01(0.35f + 0.75f * cosine);
      const float sine = std::sqrt(std::max(0.0f, 1.0f - shine * shine));
      const float gloss = highlight(sine, s.gloss) * clamp01(0.2f + cosine);
      return mul(colour,
                 s.albedo * (0.8f * diffuse) + (s.albedo + Vec{0.1f, 0.1f, 0.1f}) * (0.35f * s.specular * gloss)) *
             free;
    }
    // Red travels furthest under the skin, so the terminator is soft and warm.
    const float wrap[3] = {s.wrap, 0.45f * s.wrap, 0.3f * s.wrap};
    float diffuse[3];
    for (int k = 0; k < 3; ++k) diffuse[k] = std::max(0.0f, (cosine + wrap[k]) / ((1.0f + wrap[k]) * (1.0f + wrap[k])));
    const float soft = free + (1.0f - free) * 0.12f * s.wrap;
    const Vec matte = mul(s.albedo, {diffuse[0] * soft, diffuse[1] * free, diffuse[2] * free});
    const float grazing = 1.0f - std::max(0.0f, dot(view, half));
    const float g2 = grazing * grazing;
    const float fresnel = s.specular + (1.0f - s.specular) * g2 * g2 * grazing;
    const float gloss =
        fresnel * highlight(std::max(0.0f, dot(s.normal, half)), s.gloss) * std::max(0.0f, cosine) * free;
    return mul(colour, matte + Vec{gloss, gloss, gloss});
  }

  Colour shade(Point& point, uint8_t material) const {
    const float* q = p_.parameters;
    const Vec view = q[kSynth_orthographic] > 0.5f ? Vec{0, 0, 1} : unit(point.position * -1.0f);
    Vec n = unit(point.normal);
    if (dot(n, view) < 0.0f)
      n = material == kHair || material == kSolid ? n * -1.0f : unit(n - view * (dot(n, view) - 0.02f));
    Surface s{};
    switch (material) {
      case kSkin:
        s = shader_.skin(n, point.attributes);
        break;
      case kEye:
        s = shader_.eye(n, point.attributes);
        break;
      case kTeeth:
        s = shader_.inside(n, point.attributes, true);
        break;
      case kMouth:
        s = shader_.inside(n, point.attributes, false);
        break;
      case kHair:
        s = shader_.hair(n, point.attributes);
        break;
      default:
        s = shader_.solid(n, point.attributes);
    }
    if (s.opacity < 0.004f) return {{0, 0, 0}, 0.0f};
    const Vec key{q[kSynth_key_x], q[kSynth_key_y], q[kSynth_key_z]},
        rim{q[kSynth_rim_x], q[kSynth_rim_y], q[kSynth_rim_z]};
    // No need to look up the shadow of what faces away from the key light.
    const float free = dot(s.normal, key) > -s.wrap ? lit(point.position + n * 1.5f) : 0.0f;
    Vec colour = light(s, view, key, shader_.rgb(kSynth_key_r), free);
    const Vec rim_colour = shader_.rgb(kSynth_rim_r);
    if (rim_colour.y > 0.0f) colour = colour + light(s, view, rim, rim_colour, s.openness * s.openness);
    // Light that bounced off skin before it arrives is redder.
    const float open = s.openness;
    const Vec reach =
        s.wrap > 0.2f && !s.hair ? Vec{std::sqrt(open), open, open * (0.9f + 0.1f * open)} : Vec{open, open, open};
    const Vec around = mul(irradiance(p_.ambient, n), reach);
    colour = colour + mul(s.albedo, around);
    const float facing = 1.0f - std::max(0.0f, dot(s.normal, view));
    const Vec mirror = s.normal * (2.0f * dot(s.normal, view)) - view;
    const float sheen =
        (s.specular + (0.5f - 0.5f * s.specular) * facing * facing * facing * facing * facing) * open * open;
    colour = colour + mul(reflected(p_.ambient, mirror), {sheen, sheen, sheen}) * (s.hair ? 0.3f : 0.8f);
    if (material == kEye) {
      // A window or a lamp mirrored in the cornea.
      const float dx = mirror.x - q[kSynth_catch_x], dy = mirror.y - q[kSynth_catch_y];
      const float spot =
          ramp(1.3f * q[kSynth_catch_size], 0.7f * q[kSynth_catch_size], std::max(std::fabs(dx), std::fabs(dy)));
      const float shine = q[kSynth_catchlight] * spot * (mirror.z > 0 ? open : 0.0f);
      colour = colour + Vec{shine, shine, shine};
    }
    return {colour, s.opacity};
  }
};

}  // namespace

void synth_shade(const SynthShadeParams& p) { Painter(p).paint(); }

}  // namespace GARFAST_ISA
}  // namespace garfast

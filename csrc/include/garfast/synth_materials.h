// The surface colours of synthetic faces: skin with lips, brows, lids and beard, eyes, teeth, hair, things.
#pragma once

#include <algorithm>
#include <cmath>

#include "garfast/synth.h"
#include "garfast/synth_noise.h"

GARFAST_MATH_BEGIN

// What a material says about eight points; lighting does the rest.
struct Surface {
  Vec albedo;      // linear
  Vec normal;      // unit, camera space, toward the viewer
  Lanes specular;  // reflectance at normal incidence
  Lanes gloss;     // exponent of the highlight
  float wrap;      // how far light bleeds past the terminator (skin)
  Lanes openness;  // share of the light around that arrives
  Lanes opacity;
  bool hair;
  Vec strand;  // hair: unit direction of the strands
};

struct Shader {
  const float* q;                // parameters
  const int8_t *bank, *corners;  // of noise(), of noise_value()

  float at(SynthParameter k) const { return q[k]; }
  Vec rgb(SynthParameter first) const { return vec(q[first], q[first + 1], q[first + 2]); }
  Noise at_scale(Vec p, float size) const {
    const Vec offset = rgb(kSynth_noise_x);
    return noise(bank, p * (1.0f / size) + offset);
  }
  Lanes value_at_scale(Vec p, float size) const {
    return noise_value(corners, p * (1.0f / size) + rgb(kSynth_noise_x));
  }
  // Thin strokes: noise that varies quickly across and slowly along them.
  Lanes strokes(Lanes across, Lanes along, float thickness, float length) const {
    return value_at_scale({across / thickness, along / length, 0.37f * across / length}, 1.0f);
  }

  void brow(const Lanes* a, float grain, Vec& albedo, Lanes& specular) const {
    const float start = at(kSynth_brow_start), end = at(kSynth_brow_end);
    const Lanes u = a[6];
    const float tallest = 3.0f * at(kSynth_brow_width) + 3.0f;
    if (!any((u > start - 0.2f) & (u < end + 0.2f) & (magnitude(a[7]) < tallest))) return;
    // Brow hair runs upward at the inner end and outward further on.
    constexpr float length = 50.0f;
    const Lanes slant = 1.4f - 1.7f * u;
    const Lanes stroke = strokes(u * length - slant * a[7], a[7] * 0.6f + u * length * 0.35f, grain, 5.0f);
    const Lanes width = at(kSynth_brow_width) * (1.0f - at(kSynth_brow_taper) * clamp01(u));
    const Lanes height = a[7] - at(kSynth_brow_rise) * (1.0f - 4.0f * (u - 0.5f) * (u - 0.5f));
    const Lanes reach = 1.0f - magnitude(height) / width + at(kSynth_brow_ragged) * stroke;
    const Lanes ends = ramp(start - 0.08f, start + 0.1f, u + 0.08f * stroke) * ramp(end + 0.1f, end - 0.12f, u);
    const Lanes soft = 0.25f + at(kSynth_pixel_mm) / width;
    const Lanes cover = ramp(-soft, soft + 0.25f, reach) * ends * at(kSynth_brow_strength) * (0.85f + 0.45f * stroke);
    const Lanes m = clamp01(cover);
    albedo = mix(albedo, rgb(kSynth_brow_r), m);
    specular *= 1.0f - 0.8f * m;
  }

  Surface skin(Vec n, const Lanes* a) const {
    const Vec p{a[0], a[1], a[2]};
    const float pixel = at(kSynth_pixel_mm);
    const Lanes broad = 0.5f * a[13], middle = 0.5f * a[14];
    Vec albedo = rgb(kSynth_skin_r);
    // Absorption by blood (green and a little blue) and by melanin (blue most) multiplies, whatever the skin's tone.
    Lanes blood = at(kSynth_redness) * (0.5f * broad + 0.6f * middle) + at(kSynth_blush) * a[8];
    Lanes melanin = at(kSynth_mottle) * (0.7f * broad + 0.5f * middle);
    Lanes specular = at(kSynth_oil) * (0.6f + 0.8f * a[9]);
    Lanes gloss = lanes(at(kSynth_gloss));
    Vec bend = vec(0, 0, 0);
    // Detail finer than a pixel only makes noise.
    const float fine_share = clamp01(1.6f - pixel);
    if (fine_share > 0.0f) {
      const Noise pores = at_scale(p, 1.6f);
      bend = bend + pores.gradient * (at(kSynth_bump) * fine_share);
      specular *= 1.0f + 0.8f * fine_share * pores.value;
    }
    if (at(kSynth_freckles) > 0.0f) {
      const Lanes spots = value_at_scale(p, at(kSynth_freckle_size));
      melanin += at(kSynth_freckles) * ramp(0.35f, 0.75f, spots) * clamp01(0.25f + a[8]);
    }
    for (int k = 0; k < 3; ++k) {
      const float* mole = q + kSynth_mole0_x + 4 * k;
      if (mole[3] <= 0.0f) continue;
      const Vec d = p - vec(mole[0], mole[1], mole[2]);
      const Lanes r2 = dot(d, d);
      if (any(r2 < 9.0f * mole[3] * mole[3])) melanin += 1.6f * falloff(r2 / (mole[3] * mole[3]));
    }
    if (at(kSynth_wrinkles) > 0.0f) {
      // Creases run across the forehead and out from the eyes.
      const Noise crease = noise(bank, {p.x / 55.0f, p.y / 7.0f + 0.15f * broad, p.z / 55.0f + 3.0f});
      const Lanes where = ramp(22.0f, 36.0f, p.y) + 0.6f * bell(a[4] - 12.0f, 9.0f);
      bend.y += at(kSynth_wrinkles) * where * crease.gradient.y;
      melanin += 0.25f * at(kSynth_wrinkles) * where * ramp(0.1f, 0.6f, -crease.value);
    }
    const Lanes lower = ramp(1.0f, -1.0f, a[5]);
    const Lanes bag = at(kSynth_bags) * lower * bell(a[4] - 6.0f, 5.0f);
    blood += 0.5f * bag;
    melanin += 0.5f * bag;
    blood += 0.6f * bell(a[4], 2.0f);  // thin skin at the lid's edge
    albedo = mul(albedo, {absorbed(0.10f * blood + 0.45f * melanin), absorbed(0.75f * blood + 0.75f * melanin),
                          absorbed(0.55f * blood + 0.95f * melanin)});
    // Make-up: shade on the upper lid, a line along its edge.
    const Lanes upper = 1.0f - lower;
    if (at(kSynth_shadow_strength) > 0.0f) {
      const Lanes m = at(kSynth_shadow_strength) * bell(a[4], at(kSynth_shadow_width)) * (0.25f + 0.75f * upper);
      albedo = mix(albedo, rgb(kSynth_shadow_r), m);
    }
    const Lanes lash = at(kSynth_lash_length) * (0.35f + 0.65f * upper);
    if (any(a[4] < 4.0f * lash + 1.0f)) {
      const Lanes hairs = 0.75f + 0.5f * strokes(p.x + 0.4f * a[4], a[4], std::max(0.7f, pixel), 4.0f);
      const Lanes m = clamp01(at(kSynth_liner) * hairs * bell(a[4], lash + 0.35f * pixel));
      albedo = mix(albedo, vec(0.012f, 0.009f, 0.008f), m);
      specular *= 1.0f - m;
    }
    if (any(a[3] < 5.0f)) {
      const Lanes grooves = strokes(p.x, p.y, 1.5f, 9.0f);
      const Lanes m = ramp(0.7f + 0.5f * pixel, -0.7f - 0.5f * pixel, a[3] + 0.8f * middle);
      const Lanes tint = m * at(kSynth_lip_strength);
      albedo = mix(albedo, rgb(kSynth_lip_r) * (1.0f + 0.22f * grooves), tint);
      specular += m * at(kSynth_lip_gloss) * (1.0f + 0.8f * grooves);
      gloss += m * 25.0f;
    }
    const float grain = std::max(0.55f, 0.8f * pixel);
    brow(a, grain, albedo, specular);
    if (at(kSynth_beard_strength) + at(kSynth_stubble) > 0.0f && any(a[12] > 0.0f)) {
      const Lanes hairs = strokes(p.x + 0.5f * p.z, p.y, std::max(0.8f, pixel), at(kSynth_beard_grain));
      const Lanes clumps = 0.6f * hairs + 0.5f * middle;
      const Lanes full =
          at(kSynth_beard_strength) * ramp(0.15f, 0.75f, a[12] + 0.35f * clumps) * (0.9f + 0.35f * clumps);
      const Lanes dots = at(kSynth_stubble) * a[12] * (0.75f + 0.5f * value_at_scale(p, std::max(0.9f, pixel)));
      const Lanes there = a[12] > 0.0f ? lanes(1.0f) : lanes(0.0f);
      const Lanes m = clamp01(larger(full, dots)) * ramp(-0.5f, 2.0f, a[3]) * there;
      albedo = mix(albedo, rgb(kSynth_beard_r) * (1.0f + 0.6f * clumps), m);
      specular *= 1.0f - 0.7f * m;
    }
    if (at(kSynth_scalp_strength) > 0.0f && any(a[11] > 0.0f)) {
      const Lanes hairs = strokes(p.x + 0.6f * p.z, p.y - 0.5f * p.z, std::max(1.0f, pixel), 12.0f);
      const Lanes there = a[11] > 0.0f ? lanes(1.0f) : lanes(0.0f);
      const Lanes m =
          clamp01(at(kSynth_scalp_strength) * ramp(0.1f, 0.8f, a[11] + 0.3f * hairs) * (0.9f + 0.3f * hairs)) * there;
      albedo = mix(albedo, rgb(kSynth_hair_r) * (1.0f + 0.5f * hairs), m);
      specular *= 1.0f - 0.7f * m;
    }
    // The bump lives on the mean face, whose axes are close enough to the head's for detail this fine.
    const Vec normal = unit(n - (bend - n * dot(bend, n)));
    return {albedo, normal, specular, gloss, at(kSynth_wrap), a[10], lanes(1.0f), false, vec(0, 0, 0)};
  }

  Surface eye(Vec n, const Lanes* a) const {
    const Vec d = unit({a[0], a[1], a[2]});
    const Lanes angle =
        root(d.x * d.x + d.y * d.y) * (d.z > 0.0f ? lanes(1.0f) : lanes(9.0f));  // sine of the angle from the gaze
    const float iris = at(kSynth_iris_radius), pupil = at(kSynth_pupil_radius);
    const float soft = 0.02f + at(kSynth_pixel_mm) / 26.0f;
    Lanes turn;
    for (int k = 0; k < kLanes; ++k) turn[k] = std::atan2(d.y[k], d.x[k]);
    const Lanes fibres = noise_value(corners, {turn * 4.0f, angle * 3.0f, lanes(at(kSynth_noise_x))});
    Vec white = rgb(kSynth_sclera_r);
    const Vec place = {d.x * 14.0f, d.y * 14.0f, d.z * 14.0f};
    const Lanes vein = ramp(0.25f, 0.0f, magnitude(value_at_scale(place, 5.0f))) * ramp(iris, 1.0f, angle);
    white = mul(white, {lanes(1.0f), 1.0f - at(kSynth_veins) * vein, 1.0f - at(kSynth_veins) * vein});
    const Lanes share = angle / iris;
    Vec coloured = rgb(kSynth_iris_r) * (0.75f + 0.55f * fibres + 0.5f * ramp(1.0f, 0.45f, share));
    coloured = coloured * (1.0f - at(kSynth_iris_ring) * ramp(0.72f, 1.0f, share));
    Vec albedo = mix(white, coloured, ramp(iris + soft, iris - soft, angle));
    albedo = mix(albedo, vec(0.004f, 0.004f, 0.004f), ramp(pupil + soft, pupil - soft, angle));
    return {albedo, n, lanes(0.045f), lanes(260.0f), 0.15f, a[10], lanes(1.0f), false, vec(0, 0, 0)};
  }

  Surface inside(Vec n, const Lanes* a, bool teeth) const {
    const Vec p{a[0], a[1], a[2]};
    const Lanes wet = value_at_scale(p, 4.0f);
    const Vec albedo = rgb(teeth ? kSynth_teeth_r : kSynth_mouth_r) * (1.0f + (teeth ? 0.08f : 0.25f) * wet);
    return {albedo, n,           lanes(teeth ? 0.05f : 0.035f), lanes(teeth ? 60.0f : 40.0f), 0.2f, a[10], lanes(1.0f),
            false,  vec(0, 0, 0)};
  }

  Surface hair(Vec n, const Lanes* a) const {
    const float pixel = at(kSynth_pixel_mm);
    const Lanes wave = at(kSynth_hair_wave) * value_at_scale({a[0] * 0.3f, a[1], lanes(0.0f)}, 26.0f);
    const Lanes across = a[0] + wave;
    const Lanes clump = strokes(across, a[1], at(kSynth_hair_clump), 90.0f);
    const Lanes strand = strokes(across + 3.0f * clump, a[1], std::max(at(kSynth_hair_grain), 0.9f * pixel), 45.0f);
    const Lanes edge = a[5] + at(kSynth_hair_ragged) * (strand + 0.8f * clump);
    const Lanes opacity = ramp(-0.8f - 0.8f * pixel, 1.0f + 0.8f * pixel, edge);
    const Vec tone = mix(rgb(kSynth_hair_r), rgb(kSynth_hair_tip_r), clamp01(a[6] + 0.3f * clump));
    const Vec albedo = tone * larger(0.2f, 1.0f + 0.38f * strand + 0.28f * clump);
    const Lanes openness = a[10] * clamp01(0.85f + 0.35f * clump + 0.15f * strand);
    const Vec strand_direction = unit(Vec{a[2], a[3], a[4]} + n * (0.25f * strand + 0.2f * clump));
    const Vec normal = unit(n + Vec{clump, strand, clump} * 0.1f);
    return {albedo,       normal, at(kSynth_hair_gloss) * (1.0f + 0.5f * strand),
            lanes(60.0f), 0.25f,  openness,
            opacity,      true,   strand_direction};
  }

  Surface solid(Vec n, const Lanes* a) const {
    Vec albedo{a[0], a[1], a[2]};
    const int pattern = int(at(kSynth_pattern));
    const float size = at(kSynth_pattern_scale), soft = 0.5f * at(kSynth_pixel_mm) / size + 0.05f;
    if (pattern > 0 && any(a[8] > 0.0f)) {
      const Lanes u = a[5] / size, v = a[6] / size;
      const Lanes bar_u = magnitude(u - rounded_down(u) - 0.5f) - 0.25f,
                  bar_v = magnitude(v - rounded_down(v) - 0.5f) - 0.25f;
      Lanes m = lanes(0.0f);
      if (pattern == 1) m = ramp(-soft, soft, bar_v);
      if (pattern == 2) m = 0.5f * (ramp(-soft, soft, bar_u) + ramp(-soft, soft, bar_v));
      if (pattern == 3) m = ramp(0.0f, 0.5f, value_at_scale({a[5], a[6], lanes(0.0f)}, 2.0f * size));
      albedo = mix(albedo, rgb(kSynth_pattern_r), m * a[8]);
    }
    const Lanes weave = value_at_scale({a[5], a[6], lanes(0.0f)}, std::max(2.5f, 2.0f * at(kSynth_pixel_mm)));
    const Noise folds = at_scale({a[5], a[6], lanes(5.0f)}, 45.0f);
    albedo = albedo * (1.0f + a[8] * (0.12f * weave + 0.15f * folds.value));
    const Vec bend = folds.gradient * (0.35f * a[8]);
    return {albedo, unit(n - (bend - n * dot(bend, n))), a[3], a[4], 0.2f, a[10], a[7], false, vec(0, 0, 0)};
  }
};

GARFAST_MATH_END

// Small math shared by the shaders of synthetic faces: tiling noise, ramps, spherical harmonics.
#pragma once

#include <cmath>
#include <cstdint>

#include "garfast/isa.h"
#include "garfast/vec3.h"

GARFAST_MATH_BEGIN

using Vec = Vec3<float>;

struct Noise {
  float value;  // about normal, standard deviation 0.5, clipped to -1..1
  Vec gradient;
};

inline float clamp01(float x) { return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x; }

inline float ramp(float low, float high, float x) {
  const float t = clamp01((x - low) / (high - low));
  return t * t * (3.0f - 2.0f * t);
}

// About exp(-x) for x >= 0, as (1 + x / 16)^-16: shading needs no more.
inline float falloff(float x) {
  float y = 1.0f / (1.0f + x * (1.0f / 16.0f));
  y *= y;
  y *= y;
  y *= y;
  return y * y;
}

inline float bell(float x, float width) { return falloff(x * x / (width * width)); }

inline Vec mix(Vec a, Vec b, float t) { return a + (b - a) * t; }
inline Vec mul(Vec a, Vec b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
inline Vec unit(Vec a) { return a * (1.0f / std::sqrt(dot(a, a) + 1e-12f)); }

// Trilinear lookup in the [64, 64, 64, 4] bank; one unit of p is about one feature.
inline Noise noise(const int8_t* bank, Vec p) {
  constexpr float kCells = 5.0f;
  const float x = p.x * kCells, y = p.y * kCells, z = p.z * kCells;
  const float fx = std::floor(x), fy = std::floor(y), fz = std::floor(z);
  const float tx = x - fx, ty = y - fy, tz = z - fz;
  const int ix = int(fx), iy = int(fy), iz = int(fz);
  float sum[4] = {0, 0, 0, 0};
  for (int corner = 0; corner < 8; ++corner) {
    const int dx = corner & 1, dy = (corner >> 1) & 1, dz = corner >> 2;
    const float w = (dx ? tx : 1 - tx) * (dy ? ty : 1 - ty) * (dz ? tz : 1 - tz);
    const int8_t* texel = bank + 4 * ((((ix + dx) & 63) * 64 + ((iy + dy) & 63)) * 64 + ((iz + dz) & 63));
    for (int k = 0; k < 4; ++k) sum[k] += w * float(texel[k]);
  }
  constexpr float kScale = 1.0f / 127.0f;
  return {sum[0] * kScale, {sum[1] * kScale, sum[2] * kScale, sum[3] * kScale}};
}

// Irradiance of the light around for a unit normal: 9 coefficients per channel, already convolved with the cosine.
inline Vec irradiance(const float* sh, Vec n) {
  const float basis[9] = {
      1.0f, n.y, n.z, n.x, n.x * n.y, n.y * n.z, 3 * n.z * n.z - 1, n.x * n.z, n.x * n.x - n.y * n.y};
  Vec e{0, 0, 0};
  for (int k = 0; k < 9; ++k) e = e + Vec{sh[3 * k], sh[3 * k + 1], sh[3 * k + 2]} * basis[k];
  constexpr float kFloor = 0.01f;
  return {e.x > kFloor ? e.x : kFloor, e.y > kFloor ? e.y : kFloor, e.z > kFloor ? e.z : kFloor};
}

GARFAST_MATH_END

// Small math shared by the shaders of synthetic faces: tiling noise, ramps, spherical harmonics.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

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

// exp(-x) for small x of either sign, as (1 - x / 8)^8.
inline float absorbed(float x) {
  float y = 1.0f - x * 0.125f;
  y = y > 0.0f ? y : 0.0f;
  y *= y;
  y *= y;
  return y * y;
}

inline float bell(float x, float width) { return falloff(x * x / (width * width)); }

inline Vec mix(Vec a, Vec b, float t) { return a + (b - a) * t; }
inline Vec mul(Vec a, Vec b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
inline Vec unit(Vec a) { return a * (1.0f / std::sqrt(dot(a, a) + 1e-12f)); }

// Two neighbouring texels of four channels; GCC and Clang put these into one or two registers of any instruction set.
typedef float Float8 __attribute__((vector_size(32)));
typedef int8_t Byte8 __attribute__((vector_size(8)));

// Trilinear lookup in the tiling [64, 64, 65, 4] bank, whose last layer along z repeats the first, so that both ends of
// a cell are one load; one unit of p is about one feature.
inline Noise noise(const int8_t* bank, Vec p) {
  constexpr float kCells = 5.0f, kScale = 1.0f / 127.0f;
  const float x = p.x * kCells, y = p.y * kCells, z = p.z * kCells;
  const float fx = std::floor(x), fy = std::floor(y), fz = std::floor(z);
  const float tx = x - fx, ty = y - fy, tz = z - fz;
  const int x0 = int(fx) & 63, y0 = int(fy) & 63, z0 = int(fz) & 63;
  const int x1 = (x0 + 1) & 63, y1 = (y0 + 1) & 63;
  const auto cell = [bank, z0](int ix, int iy) {
    Byte8 bytes;
    std::memcpy(&bytes, bank + 4 * ((ix * 64 + iy) * 65 + z0), sizeof bytes);
    return __builtin_convertvector(bytes, Float8);
  };
  const Float8 near = cell(x0, y0) * (1.0f - ty) + cell(x0, y1) * ty;
  const Float8 far = cell(x1, y0) * (1.0f - ty) + cell(x1, y1) * ty;
  const Float8 both = near * (1.0f - tx) + far * tx;
  const float low = (1.0f - tz) * kScale, high = tz * kScale;
  return {both[0] * low + both[4] * high,
          {both[1] * low + both[5] * high, both[2] * low + both[6] * high, both[3] * low + both[7] * high}};
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

// The same up to order 1: enough for what a surface mirrors faintly.
inline Vec reflected(const float* sh, Vec d) {
  float e[3];
  for (int c = 0; c < 3; ++c) {
    const float value = sh[c] + sh[3 + c] * d.y + sh[6 + c] * d.z + sh[9 + c] * d.x;
    e[c] = value > 0.0f ? value : 0.0f;
  }
  return {e[0], e[1], e[2]};
}

GARFAST_MATH_END

// Small math shared by the shaders of synthetic faces: tiling noise, ramps, spherical harmonics.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "garfast/isa.h"
#include "garfast/vec3.h"

GARFAST_MATH_BEGIN

// Shaders draw eight points of one material side by side, one per lane; GCC and Clang put these into one or two
// registers of any instruction set. Whatever depends on the picture alone stays a plain float or bool.
constexpr int kLanes = 8;
typedef float Lanes __attribute__((vector_size(4 * kLanes)));
typedef int32_t Choice __attribute__((vector_size(4 * kLanes)));  // of comparisons: -1 where true, 0 where false

using Vec = Vec3<Lanes>;

struct Noise {
  Lanes value;  // about normal, standard deviation 0.5, clipped to -1..1
  Vec gradient;
};

inline Lanes lanes(float x) { return x - Lanes{}; }
inline Vec vec(float x, float y, float z) { return {lanes(x), lanes(y), lanes(z)}; }
inline Vec operator*(Vec a, float s) { return a * lanes(s); }
inline Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }
inline Lanes larger(float a, Lanes b) { return larger(lanes(a), b); }
inline Lanes smaller(Lanes a, Lanes b) { return a < b ? a : b; }
inline Lanes magnitude(Lanes x) { return x < 0.0f ? -x : x; }
inline Lanes rounded_down(Lanes x) {
  const Lanes cut = __builtin_convertvector(__builtin_convertvector(x, Choice), Lanes);
  return cut > x ? cut - 1.0f : cut;
}
inline Lanes root(Lanes x) {
  Lanes y;
  for (int k = 0; k < kLanes; ++k) y[k] = std::sqrt(x[k]);
  return y;
}
inline bool any(Choice c) {
  int32_t all = 0;
  for (int k = 0; k < kLanes; ++k) all |= c[k];
  return all != 0;
}

inline Lanes clamp01(Lanes x) { return smaller(larger(0.0f, x), lanes(1.0f)); }
inline float clamp01(float x) { return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x; }

// 0 below ``low``, 1 above ``high``, smooth between; either may differ from lane to lane.
template <typename Low, typename High>
inline Lanes ramp(Low low, High high, Lanes x) {
  const Lanes t = clamp01((x - low) / (high - low));
  return t * t * (3.0f - 2.0f * t);
}

// About exp(-x) for x >= 0, as (1 + x / 16)^-16: shading needs no more.
inline Lanes falloff(Lanes x) {
  Lanes y = 1.0f / (1.0f + x * (1.0f / 16.0f));
  y *= y;
  y *= y;
  y *= y;
  return y * y;
}

// exp(-x) for small x of either sign, as (1 - x / 8)^8.
inline Lanes absorbed(Lanes x) {
  Lanes y = larger(0.0f, 1.0f - x * 0.125f);
  y *= y;
  y *= y;
  return y * y;
}

template <typename Width>
inline Lanes bell(Lanes x, Width width) {
  return falloff(x * x / (width * width));
}

inline Vec mix(Vec a, Vec b, Lanes t) { return a + (b - a) * t; }
inline Vec mul(Vec a, Vec b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
inline Vec unit(Vec a) { return a * (1.0f / root(dot(a, a) + 1e-12f)); }

// Where a point lies in the bank: the cell's near corner, its neighbours across x and y, and the place inside.
struct Cell {
  Lanes tx, ty, tz;
  Choice x0, x1, y0, y1, z0;

  // One unit of p is about one feature.
  explicit Cell(Vec p) {
    constexpr float kCells = 5.0f;
    const Lanes x = p.x * kCells, y = p.y * kCells, z = p.z * kCells;
    const Lanes fx = rounded_down(x), fy = rounded_down(y), fz = rounded_down(z);
    tx = x - fx, ty = y - fy, tz = z - fz;
    x0 = __builtin_convertvector(fx, Choice) & 63;
    y0 = __builtin_convertvector(fy, Choice) & 63;
    z0 = __builtin_convertvector(fz, Choice) & 63;
    x1 = (x0 + 1) & 63;
    y1 = (y0 + 1) & 63;
  }
};
constexpr float kNoiseScale = 1.0f / 127.0f;

typedef int8_t Byte8 __attribute__((vector_size(8)));

// Trilinear lookup in the tiling [64, 64, 65, 4] bank, whose last layer along z repeats the first, so that both ends of
// a cell are one load.
inline Noise noise(const int8_t* bank, Vec p) {
  const Cell at(p);
  const Choice at00 = 4 * ((at.x0 * 64 + at.y0) * 65 + at.z0), at01 = 4 * ((at.x0 * 64 + at.y1) * 65 + at.z0),
               at10 = 4 * ((at.x1 * 64 + at.y0) * 65 + at.z0), at11 = 4 * ((at.x1 * 64 + at.y1) * 65 + at.z0);
  // The four channels at both ends of a cell along z.
  const auto ends = [bank](int32_t from) {
    Byte8 bytes;
    std::memcpy(&bytes, bank + from, sizeof bytes);
    return __builtin_convertvector(bytes, Lanes);
  };
  Noise out;
  for (int k = 0; k < kLanes; ++k) {
    const float tx = at.tx[k], ty = at.ty[k];
    const Lanes near = ends(at00[k]) * (1.0f - ty) + ends(at01[k]) * ty;
    const Lanes far = ends(at10[k]) * (1.0f - ty) + ends(at11[k]) * ty;
    const Lanes both = near * (1.0f - tx) + far * tx;
    const float low = (1.0f - at.tz[k]) * kNoiseScale, high = at.tz[k] * kNoiseScale;
    out.value[k] = both[0] * low + both[4] * high;
    out.gradient.x[k] = both[1] * low + both[5] * high;
    out.gradient.y[k] = both[2] * low + both[6] * high;
    out.gradient.z[k] = both[3] * low + both[7] * high;
  }
  return out;
}

// The value alone, for half the work: from the bank [64, 64, 64, 4] of values at the four corners of each cell's side
// across x, which make one integer.
inline Lanes noise_value(const int8_t* corners, Vec p) {
  const Cell at(p);
  const Choice from = 4 * ((at.x0 * 64 + at.y0) * 64 + at.z0), to = 4 * ((at.x1 * 64 + at.y0) * 64 + at.z0);
  Choice near, far;
  for (int k = 0; k < kLanes; ++k) {
    int32_t four[2];
    std::memcpy(&four[0], corners + from[k], sizeof four[0]);
    std::memcpy(&four[1], corners + to[k], sizeof four[1]);
    near[k] = four[0];
    far[k] = four[1];
  }
  // Along z, then y, of a side's four corners.
  const auto side = [&at](Choice four) {
    const auto corner = [four](int k) { return __builtin_convertvector((four << (24 - 8 * k)) >> 24, Lanes); };
    const Lanes low = corner(0) + (corner(1) - corner(0)) * at.tz, high = corner(2) + (corner(3) - corner(2)) * at.tz;
    return low + (high - low) * at.ty;
  };
  const Lanes start = side(near), end = side(far);
  return (start + (end - start) * at.tx) * kNoiseScale;
}

// Irradiance of the light around for a unit normal: 9 coefficients per channel, already convolved with the cosine.
inline Vec irradiance(const float* sh, Vec n) {
  const Lanes basis[9] = {lanes(1.0f),          n.y, n.z, n.x, n.x * n.y, n.y * n.z, 3.0f * n.z * n.z - 1.0f, n.x * n.z,
                          n.x * n.x - n.y * n.y};
  Vec e = vec(0, 0, 0);
  for (int k = 0; k < 9; ++k) e = e + Vec{sh[3 * k] * basis[k], sh[3 * k + 1] * basis[k], sh[3 * k + 2] * basis[k]};
  constexpr float kFloor = 0.01f;
  return {larger(kFloor, e.x), larger(kFloor, e.y), larger(kFloor, e.z)};
}

// The same up to order 1: enough for what a surface mirrors faintly.
inline Vec reflected(const float* sh, Vec d) {
  Lanes e[3];
  for (int c = 0; c < 3; ++c) e[c] = larger(0.0f, sh[c] + sh[3 + c] * d.y + sh[6 + c] * d.z + sh[9 + c] * d.x);
  return {e[0], e[1], e[2]};
}

GARFAST_MATH_END

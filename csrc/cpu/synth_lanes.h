// Rows of numbers to lanes: what belongs to eight points, gathered point by point, as a vector for each number.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "garfast/synth_noise.h"
#include "transpose.h"

GARFAST_MATH_BEGIN

typedef float Quad __attribute__((vector_size(16)));
// Whole numbers; of comparisons: -1 where true, 0 where false.
typedef int32_t QuadChoice __attribute__((vector_size(16)));

// Vectors where they lie in memory, aligned like numbers. Not memcpy: a vector copied in halves has to wait for both.
typedef float LanesThere __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef int32_t ChoiceThere __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
inline Lanes load_lanes(const float* from) { return *reinterpret_cast<const LanesThere*>(from); }
inline Choice load_lanes(const int32_t* from) { return *reinterpret_cast<const ChoiceThere*>(from); }

// One bit per number that is chosen.
inline int bits_of(QuadChoice c) {
#if defined(__SSE2__)
  return _mm_movemask_ps(reinterpret_cast<__m128>(c));
#else
  return (c[0] & 1) | (c[1] & 2) | (c[2] & 4) | (c[3] & 8);
#endif
}

inline int bits_of(Choice c) {
#if defined(__AVX2__)
  return _mm256_movemask_ps(reinterpret_cast<__m256>(c));
#else
  int bits = 0;
  for (int k = 0; k < kLanes; ++k) bits |= (c[k] & 1) << k;
  return bits;
#endif
}

// Lane j of columns[i] is number i of rows[j].
inline void transpose(const Lanes* rows, Lanes* columns) {
#if defined(__AVX2__)
  __m256 pairs[8], fours[8];
  for (int i = 0; i < 8; i += 2) {
    const __m256 even = reinterpret_cast<__m256>(rows[i]), odd = reinterpret_cast<__m256>(rows[i + 1]);
    pairs[i] = _mm256_unpacklo_ps(even, odd);
    pairs[i + 1] = _mm256_unpackhi_ps(even, odd);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {
      fours[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
      fours[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xee);
    }
  for (int i = 0; i < 4; ++i) {
    columns[i] = reinterpret_cast<Lanes>(_mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20));
    columns[i + 4] = reinterpret_cast<Lanes>(_mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31));
  }
#else
  for (int i = 0; i < kLanes; ++i)
    for (int j = 0; j < kLanes; ++j) columns[i][j] = rows[j][i];
#endif
}

inline void transpose(const Quad* rows, Lanes* columns) {
#if defined(__AVX2__)
  __m256 halves[4], result[4];
  for (int i = 0; i < 4; ++i)
    halves[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(reinterpret_cast<__m128>(rows[i])),
                                     reinterpret_cast<__m128>(rows[i + 4]), 1);
  transpose_halves(halves, result);
  for (int i = 0; i < 4; ++i) columns[i] = reinterpret_cast<Lanes>(result[i]);
#else
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < kLanes; ++j) columns[i][j] = rows[j][i];
#endif
}

// Number i of rows[j] is lane j of columns[i].
inline void transpose_back(const Lanes* columns, Quad* rows) {
#if defined(__AVX2__)
  const auto at = [&](int i) { return reinterpret_cast<__m256>(columns[i]); };
  const __m256 a = _mm256_unpacklo_ps(at(0), at(1)), b = _mm256_unpackhi_ps(at(0), at(1));
  const __m256 c = _mm256_unpacklo_ps(at(2), at(3)), d = _mm256_unpackhi_ps(at(2), at(3));
  const __m256 both[4] = {_mm256_shuffle_ps(a, c, 0x44), _mm256_shuffle_ps(a, c, 0xee), _mm256_shuffle_ps(b, d, 0x44),
                          _mm256_shuffle_ps(b, d, 0xee)};
  for (int k = 0; k < 4; ++k) {
    rows[k] = reinterpret_cast<Quad>(_mm256_castps256_ps128(both[k]));
    rows[k + 4] = reinterpret_cast<Quad>(_mm256_extractf128_ps(both[k], 1));
  }
#else
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < kLanes; ++j) rows[j][i] = columns[i][j];
#endif
}

GARFAST_MATH_END

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

// One bit per number that is chosen.
inline int bits_of(QuadChoice c) {
#if defined(__SSE2__)
  return _mm_movemask_ps(reinterpret_cast<__m128>(c));
#else
  return (c[0] & 1) | (c[1] & 2) | (c[2] & 4) | (c[3] & 8);
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

GARFAST_MATH_END

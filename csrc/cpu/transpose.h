// Four numbers of eight things each, to a vector for each number.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>

#include "garfast/isa.h"

GARFAST_MATH_BEGIN

// halves[i]: the numbers of thing i, then those of thing i + 4. Lane j of columns[i] becomes number i of thing j.
inline void transpose_halves(const __m256* halves, __m256* columns) {
  const __m256 a = _mm256_unpacklo_ps(halves[0], halves[2]), b = _mm256_unpacklo_ps(halves[1], halves[3]);
  const __m256 c = _mm256_unpackhi_ps(halves[0], halves[2]), d = _mm256_unpackhi_ps(halves[1], halves[3]);
  columns[0] = _mm256_unpacklo_ps(a, b);
  columns[1] = _mm256_unpackhi_ps(a, b);
  columns[2] = _mm256_unpacklo_ps(c, d);
  columns[3] = _mm256_unpackhi_ps(c, d);
}

GARFAST_MATH_END
#endif

// Vectors for the CPU rasteriser: the compiler's own vector types, as wide as a register, and the few operations on
// them that it lacks. Not wider: g++ would take comparisons and selections apart into single numbers.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "garfast/isa.h"

namespace garfast {
namespace GARFAST_ISA {

#if defined(__AVX512DQ__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T>
struct Simd;
template <>
struct Simd<float> {
  static constexpr int kLanes = kVectorBytes / 4;
  typedef float V __attribute__((vector_size(kVectorBytes)));
  typedef int32_t M __attribute__((vector_size(kVectorBytes)));  // what a comparison gives: 0 or -1
  typedef int32_t I __attribute__((vector_size(kVectorBytes)));
};
template <>
struct Simd<double> {
  static constexpr int kLanes = kVectorBytes / 8;
  typedef double V __attribute__((vector_size(kVectorBytes)));
  typedef int64_t M __attribute__((vector_size(kVectorBytes)));
  typedef int64_t I __attribute__((vector_size(kVectorBytes)));
};

template <typename V, typename T>
inline V load(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof(V));
  return v;
}

template <typename V, typename T>
inline V fill(T value) {
  return V{} + decltype(V{}[0])(value);
}

template <typename V>
inline V iota() {
  V v;
  for (unsigned l = 0; l < sizeof(V) / sizeof(v[0]); ++l) v[l] = decltype(V{}[0])(l);
  return v;
}

template <typename V>
inline V lower(V a, V b) {
  return a < b ? a : b;
}
template <typename V>
inline V upper(V a, V b) {
  return a > b ? a : b;
}

template <typename V, typename I>
inline V to_float(I i) {
  return __builtin_convertvector(i, V);
}
// Towards zero.
template <typename T>
inline typename Simd<T>::I to_int(typename Simd<T>::V v) {
  return __builtin_convertvector(v, typename Simd<T>::I);
}

// One bit per lane of a comparison's result.
template <typename M>
inline unsigned mask_bits(M m) {
#if defined(__AVX512DQ__)
  if constexpr (sizeof(m[0]) == 4)
    return _mm512_movepi32_mask(reinterpret_cast<__m512i>(m));
  else
    return _mm512_movepi64_mask(reinterpret_cast<__m512i>(m));
#elif defined(__AVX2__)
  if constexpr (sizeof(m[0]) == 4)
    return unsigned(_mm256_movemask_ps(reinterpret_cast<__m256>(m)));
  else
    return unsigned(_mm256_movemask_pd(reinterpret_cast<__m256d>(m)));
#else
  unsigned bits = 0;
  for (unsigned l = 0; l < sizeof(M) / sizeof(m[0]); ++l) bits |= unsigned(m[l] & 1) << l;
  return bits;
#endif
}

// first_pixel and last_pixel of rasterize_normals.h for a vector.
template <typename T>
inline typename Simd<T>::I first_pixels(typename Simd<T>::V low) {
  using V = typename Simd<T>::V;
  const V centre = upper(low - T(0.5), V{});
  const auto i = to_int<T>(centre);
  return i - (to_float<V>(i) < centre);
}
template <typename T>
inline typename Simd<T>::I last_pixels(typename Simd<T>::V high, int32_t size) {
  using V = typename Simd<T>::V;
  const V bounded = upper(lower(high - T(0.5), fill<V>(T(size - 1))), fill<V>(T(-1)));
  const auto i = to_int<T>(bounded);
  return i + (to_float<V>(i) > bounded);
}

}  // namespace GARFAST_ISA
}  // namespace garfast

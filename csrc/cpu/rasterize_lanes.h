// Vectors for the CPU rasteriser: the compiler's own vector types, as wide as a register, and the few operations on
// them that it lacks. Not wider: g++ would take comparisons and selections apart into single numbers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "garfast/isa.h"
#include "transpose.h"

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
  typedef int32_t Index;
  typedef Index I __attribute__((vector_size(kVectorBytes)));
  typedef I Int32;
};
template <>
struct Simd<double> {
  static constexpr int kLanes = kVectorBytes / 8;
  typedef double V __attribute__((vector_size(kVectorBytes)));
  typedef int64_t M __attribute__((vector_size(kVectorBytes)));
  typedef int64_t Index;
  typedef Index I __attribute__((vector_size(kVectorBytes)));
  typedef int32_t Int32 __attribute__((vector_size(kVectorBytes / 2)));
};

#if defined(__AVX2__) && !defined(__AVX512DQ__)
// For every set of eight lanes those that are in it, one after another.
struct LaneOrders {
  uint8_t lanes[256][8];
};
constexpr LaneOrders lane_orders() {
  LaneOrders orders{};
  for (int bits = 0; bits < 256; ++bits) {
    int count = 0;
    for (int l = 0; l < 8; ++l)
      if (bits >> l & 1) orders.lanes[bits][count++] = uint8_t(l);
  }
  return orders;
}
constexpr LaneOrders kLaneOrders = lane_orders();
#endif

template <typename V, typename T>
inline V load(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof(V));
  return v;
}

template <typename V, typename T>
inline void store(V v, T* p) {
  std::memcpy(p, &v, sizeof(V));
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

// kLanes indices in lanes as wide as T.
template <typename T>
inline typename Simd<T>::I load_ints(const int32_t* p) {
  return __builtin_convertvector(load<typename Simd<T>::Int32>(p), typename Simd<T>::I);
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

template <typename T>
inline typename Simd<T>::V square_root(typename Simd<T>::V v) {
  T roots[Simd<T>::kLanes];
  store(v, roots);
  for (int l = 0; l < Simd<T>::kLanes; ++l) roots[l] = std::sqrt(roots[l]);
  return load<typename Simd<T>::V>(roots);
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

// The least lane.
template <typename T>
inline T least(typename Simd<T>::V v) {
#if defined(__AVX2__) && !defined(__AVX512DQ__)
  if constexpr (sizeof(T) == 4) {
    const __m256 all = reinterpret_cast<__m256>(v);
    __m128 m = _mm_min_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    m = _mm_min_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_min_ss(m, _mm_movehdup_ps(m)));
  }
#endif
  T low = v[0];
  for (int l = 1; l < Simd<T>::kLanes; ++l) low = v[l] < low ? v[l] : low;
  return low;
}

// The greatest lane.
template <typename T>
inline typename Simd<T>::Index greatest(typename Simd<T>::I v) {
#if defined(__AVX2__) && !defined(__AVX512DQ__)
  if constexpr (sizeof(T) == 4) {
    const __m256i all = reinterpret_cast<__m256i>(v);
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    return _mm_cvtsi128_si32(m);
  }
#endif
  auto most = v[0];
  for (int l = 1; l < Simd<T>::kLanes; ++l) most = v[l] > most ? v[l] : most;
  return most;
}

// Whether there are instructions that write the lanes of a set one after another.
#if defined(__AVX512DQ__)
template <typename T>
constexpr bool kPacks = true;
#elif defined(__AVX2__)
template <typename T>
constexpr bool kPacks = sizeof(T) == 4;
#else
template <typename T>
constexpr bool kPacks = false;
#endif

// Writes the lanes of a set, one bit per lane, one after another. Up to kLanes places are written to, whatever the set.
template <typename T>
class Packing {
  static_assert(kPacks<T>);
  using V = typename Simd<T>::V;
  using I = typename Simd<T>::I;
  using Index = typename Simd<T>::Index;

 public:
  void operator()(V v, T* to) const { store(packed(reinterpret_cast<I>(v)), to); }
  void operator()(I v, Index* to) const { store(packed(v), to); }

#if defined(__AVX512DQ__)
  explicit Packing(unsigned bits) : bits_(bits) {}

 private:
  I packed(I v) const {
    const auto all = reinterpret_cast<__m512i>(v);
    if constexpr (sizeof(T) == 4)
      return reinterpret_cast<I>(_mm512_maskz_compress_epi32(__mmask16(bits_), all));
    else
      return reinterpret_cast<I>(_mm512_maskz_compress_epi64(__mmask8(bits_), all));
  }

  unsigned bits_;
#elif defined(__AVX2__)
  explicit Packing(unsigned bits)
      : order_(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kLaneOrders.lanes[bits])))) {}

 private:
  I packed(I v) const { return reinterpret_cast<I>(_mm256_permutevar8x32_epi32(reinterpret_cast<__m256i>(v), order_)); }

  __m256i order_;
#endif
};

// The four numbers at each of kLanes places, as four vectors: of the first numbers, of the second ones, ...
template <typename T>
inline void transpose(const T* const* places, typename Simd<T>::V* columns) {
  constexpr int kLanes = Simd<T>::kLanes;
#if defined(__AVX2__) && !defined(__AVX512DQ__)
  if constexpr (sizeof(T) == 4) {
    __m256 halves[4], result[4];
    for (int i = 0; i < 4; ++i)
      halves[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(places[i])), _mm_loadu_ps(places[i + 4]), 1);
    transpose_halves(halves, result);
    for (int i = 0; i < 4; ++i) columns[i] = reinterpret_cast<typename Simd<T>::V>(result[i]);
    return;
  }
#endif
  for (int c = 0; c < 4; ++c) {
    T column[kLanes];
    for (int l = 0; l < kLanes; ++l) column[l] = places[l][c];
    columns[c] = load<typename Simd<T>::V>(column);
  }
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
inline typename Simd<T>::I last_pixels(typename Simd<T>::V high, typename Simd<T>::V last) {
  using V = typename Simd<T>::V;
  const V bounded = upper(lower(high - T(0.5), last), fill<V>(T(-1)));
  const auto i = to_int<T>(bounded);
  return i + (to_float<V>(i) > bounded);
}

}  // namespace GARFAST_ISA
}  // namespace garfast

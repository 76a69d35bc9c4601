// Rows of numbers for the CPU kernels: widened on the way in, rounded on the way out, in place where nothing changes.
#pragma once

#include <cstdint>
#include <new>
#include <type_traits>

#include "garfast/scalar.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace garfast {
namespace GARFAST_ISA {

// A thread's working memory. Not std::vector: its functions would be the same symbols in every instruction set's
// variant.
template <typename A>
class Scratch {
 public:
  explicit Scratch(int64_t n) : data_(static_cast<A*>(operator new[](n * sizeof(A), kLine))) {}
  ~Scratch() { operator delete[](data_, kLine); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  A* data() { return data_; }
  const A* data() const { return data_; }
  A& operator[](int64_t i) { return data_[i]; }

 private:
  static constexpr std::align_val_t kLine{64};  // no vector of it lies in two lines of the cache
  A* data_;
};

template <typename S, typename A>
inline void widen_row(const S* from, A* to, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  if constexpr (std::is_same_v<S, Half>)
    for (; i + 8 <= n; i += 8)
      _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
#endif
  for (; i < n; ++i) to[i] = widen(from[i]);
}

template <typename S, typename A>
inline void narrow_row(const A* from, S* to, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  if constexpr (std::is_same_v<S, Half>)
    for (; i + 8 <= n; i += 8)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), 0));
#endif
  for (; i < n; ++i) to[i] = narrow<S>(from[i]);
}

// The row itself, or its widened copy in `scratch`.
template <typename S, typename A>
inline const A* read_row(const S* row, A* scratch, int64_t n) {
  if constexpr (std::is_same_v<S, A>) {
    return row;
  } else {
    widen_row(row, scratch, n);
    return scratch;
  }
}

// Where to write a row: the row itself, or `scratch`, which finish_row() then rounds into it.
template <typename S, typename A>
inline A* write_row(S* row, A* scratch) {
  if constexpr (std::is_same_v<S, A>)
    return row;
  else
    return scratch;
}

template <typename S, typename A>
inline void finish_row(const A* scratch, S* row, int64_t n) {
  if constexpr (!std::is_same_v<S, A>) narrow_row(scratch, row, n);
}

}  // namespace GARFAST_ISA
}  // namespace garfast

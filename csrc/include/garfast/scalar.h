// The number formats of tensors and the format each is computed in: float for the 16-bit ones and float, double for
// double.
#pragma once

#include <cstdint>
#include <cstring>

#include "garfast/isa.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace garfast {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <typename S>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};
template <typename S>
using accumulate_t = typename Accumulator<S>::type;

}  // namespace garfast

GARFAST_MATH_BEGIN

GARFAST_HD uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}
GARFAST_HD float bits_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

GARFAST_HD float widen(float x) { return x; }
GARFAST_HD double widen(double x) { return x; }
GARFAST_HD float widen(BFloat16 x) { return bits_float(uint32_t(x.bits) << 16); }
GARFAST_HD float widen(Half x) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(x.bits));
#else
  const uint32_t sign = uint32_t(x.bits & 0x8000u) << 16, exponent = x.bits >> 10 & 31, fraction = x.bits & 0x3ffu;
  if (exponent == 31) return bits_float(sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) return bits_float(sign | float_bits(float(fraction) * 5.9604644775390625e-8f));  // times 2^-24
  return bits_float(sign | (exponent + 112) << 23 | fraction << 13);
#endif
}

// Rounds to nearest, ties to even.
template <typename S>
GARFAST_HD S narrow(accumulate_t<S> x) {
  return x;
}
template <>
GARFAST_HD BFloat16 narrow<BFloat16>(float x) {
  const uint32_t bits = float_bits(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return {uint16_t(nan ? 0x7fc0u : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}
template <>
GARFAST_HD Half narrow<Half>(float x) {
#ifdef __CUDA_ARCH__
  return {__half_as_ushort(__float2half_rn(x))};
#else
  const uint32_t bits = float_bits(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {uint16_t(sign | 0x7e00u)};
  if (magnitude >= 0x47800000u) return {uint16_t(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 leaves the rounded fraction in the low bits
    const uint32_t rounded = float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u;
    return {uint16_t(sign | rounded)};
  }
  return {uint16_t(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13)};
#endif
}

GARFAST_MATH_END

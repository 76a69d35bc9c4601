// Index arithmetic on the device.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace garfast {
namespace cuda {

struct Division {
  int64_t quotient, rest;
};

// Of numbers that are not negative; in 32 bits where both fit, as a 64-bit division takes about a hundred instructions.
__device__ __forceinline__ Division divide(int64_t a, int64_t b) {
  if (uint64_t(a | b) >> 32) return {a / b, a % b};
  const uint32_t quotient = uint32_t(a) / uint32_t(b);
  return {int64_t(quotient), int64_t(uint32_t(a) - quotient * uint32_t(b))};
}

}  // namespace cuda
}  // namespace garfast

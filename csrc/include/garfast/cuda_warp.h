// What the threads of a warp do together.
#pragma once

#include <cuda_runtime.h>

namespace garfast {
namespace cuda {

// The sum over the warp, in all of its threads and always in the same order.
template <typename A>
__device__ A warp_sum(A value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  return value;
}

}  // namespace cuda
}  // namespace garfast

// What every CUDA launcher needs: launches, error checks and launch arithmetic.
//
// Kernels are launched with launch() and take dynamic shared memory with GARFAST_DYNAMIC_SHARED rather than with CUDA's
// own syntax, so that the same .cu files also compile as plain C++ against tests/cuda_host, where a block's threads are
// fibers. That is how indexing and barriers are tested on machines without a GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace garfast {
namespace cuda {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // or the next launch would report it again
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

inline unsigned blocks_for(int64_t items, int threads) { return unsigned((items + threads - 1) / threads); }

#ifdef __CUDACC__
#define GARFAST_DYNAMIC_SHARED(T, name)              \
  extern __shared__ __align__(16) char name##_raw[]; \
  T* name = reinterpret_cast<T*>(name##_raw)

// Enqueues kernel<<<grid, block, shared, stream>>>(args...); reports a bad configuration at once, never synchronises.
template <typename... Params, typename... Args>
void launch(const char* what, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
            const Args&... args) {
  if (shared > 48 * 1024)  // more than this must be asked for
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared)), what);
  kernel<<<grid, block, shared, stream>>>(args...);
  check(cudaGetLastError(), what);
}
#endif

}  // namespace cuda
}  // namespace garfast

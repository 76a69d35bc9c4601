// A CUDA block on the CPU, for tests: enough of the CUDA language and runtime to compile csrc/cuda/*.cu as plain C++.
//
// Blocks run one after another. The threads of a block are fibers (ucontext) of one OS thread; each runs until it meets
// a barrier or a warp collective. The order in which fibers run is shuffled from launch to launch, so that a missing
// barrier shows as a wrong result; dynamic shared memory starts filled with NaN bytes, so that reading it unwritten
// shows too. A barrier that some threads never reach raises instead of hanging.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __restrict__
// One block runs at a time on one OS thread, so a block's shared variable can be a static one.
#define __shared__ static
#define __align__(n) alignas(n)

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorUnknown = 999 };
constexpr int CUDART_VERSION = 0;

inline const char* cudaGetErrorString(cudaError_t) { return "no CUDA on the host"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16 };
// Few multiprocessors, so that persistent kernels loop even on small cases.
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 2;
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t) {
  std::memset(p, value, bytes);
  return cudaSuccess;
}

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct float3 {
  float x, y, z;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace cuda_host {

extern uint3 thread_index, block_index;
extern dim3 block_size, grid_size;
extern char* dynamic_shared;

// Runs body once per thread of every block.
void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);
// Returns when every live thread of the block has called it; true if `predicate` held in all / any of them.
struct Votes {
  bool all, any;
  int count;
};
Votes block_barrier(bool predicate);
// Every lane in `mask` gives 8 bytes and sees those of all lanes of its warp.
const uint64_t* warp_exchange(unsigned mask, uint64_t value);
unsigned lane();

template <typename T>
uint64_t pack(T value) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <typename T>
T unpack(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace cuda_host

#define threadIdx cuda_host::thread_index
#define blockIdx cuda_host::block_index
#define blockDim cuda_host::block_size
#define gridDim cuda_host::grid_size
constexpr int warpSize = 32;

inline void __syncthreads() { cuda_host::block_barrier(true); }
inline int __syncthreads_or(int p) { return cuda_host::block_barrier(p != 0).any; }
inline int __syncthreads_and(int p) { return cuda_host::block_barrier(p != 0).all; }
inline int __syncthreads_count(int p) { return cuda_host::block_barrier(p != 0).count; }
inline void __syncwarp(unsigned mask = 0xffffffffu) { cuda_host::warp_exchange(mask, 0); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const uint64_t* all = cuda_host::warp_exchange(mask, cuda_host::pack(value));
  const int lane = int(cuda_host::lane());
  return cuda_host::unpack<T>(all[(lane & ~(width - 1)) + (source & (width - 1))]);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  const uint64_t* all = cuda_host::warp_exchange(mask, cuda_host::pack(value));
  const int lane = int(cuda_host::lane()), source = lane ^ lanes;
  return cuda_host::unpack<T>(all[source / width == lane / width ? source : lane]);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const uint64_t* all = cuda_host::warp_exchange(mask, cuda_host::pack(value));
  const int lane = int(cuda_host::lane()), source = lane + int(delta);
  return cuda_host::unpack<T>(all[source / width == lane / width && source < 32 ? source : lane]);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const uint64_t* all = cuda_host::warp_exchange(mask, cuda_host::pack(value));
  const int lane = int(cuda_host::lane()), source = lane - int(delta);
  return cuda_host::unpack<T>(all[source >= 0 && source / width == lane / width ? source : lane]);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const uint64_t* all = cuda_host::warp_exchange(mask, predicate != 0);
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i)
    if ((mask >> i & 1) && all[i]) bits |= 1u << i;
  return bits;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }

template <typename T>
T atomicAdd(T* p, T value) {
  const T old = *p;
  *p = old + value;
  return old;
}
template <typename T>
T atomicMin(T* p, T value) {
  const T old = *p;
  if (value < old) *p = value;
  return old;
}
template <typename T>
T atomicMax(T* p, T value) {
  const T old = *p;
  if (value > old) *p = value;
  return old;
}

template <typename T>
T __ldg(const T* p) {
  return *p;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __int_as_float(int x) { return cuda_host::unpack<float>(cuda_host::pack(x)); }
inline int __float_as_int(float x) { return cuda_host::unpack<int>(cuda_host::pack(x)); }
inline unsigned __float_as_uint(float x) { return cuda_host::unpack<unsigned>(cuda_host::pack(x)); }
inline float __uint_as_float(unsigned x) { return cuda_host::unpack<float>(cuda_host::pack(x)); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline float __saturatef(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

template <typename T, typename U>
auto min(T a, U b) {
  using C = std::common_type_t<T, U>;
  return C(a) < C(b) ? C(a) : C(b);
}
template <typename T, typename U>
auto max(T a, U b) {
  using C = std::common_type_t<T, U>;
  return C(a) > C(b) ? C(a) : C(b);
}

#define GARFAST_DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(cuda_host::dynamic_shared)

namespace garfast {
namespace cuda {

template <typename... Params, typename... Args>
void launch(const char*, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared, cudaStream_t,
            const Args&... args) {
  cuda_host::run(grid, block, shared, [&] { kernel(args...); });
}

}  // namespace cuda
}  // namespace garfast

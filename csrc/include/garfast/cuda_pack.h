// Several neighbouring elements in one memory access.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "garfast/scalar.h"

namespace garfast {
namespace cuda {

template <typename S, int V>
struct alignas(sizeof(S) * V) Pack {
  S v[V];
};

inline bool is_aligned(const void* address, size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(address) % bytes == 0;
}

// kPacked: the address is a multiple of V elements.
template <int V, bool kPacked, typename S, typename A>
__device__ void load_pack(const S* from, A* to) {
  if constexpr (kPacked) {
    const Pack<S, V> pack = *reinterpret_cast<const Pack<S, V>*>(from);
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] = baseline::widen(pack.v[i]);
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] = baseline::widen(from[i]);
  }
}

template <int V, bool kPacked, typename S, typename A>
__device__ void store_pack(const A* from, S* to) {
  Pack<S, V> pack;
#pragma unroll
  for (int i = 0; i < V; ++i) pack.v[i] = baseline::narrow<S>(from[i]);
  if constexpr (kPacked) {
    *reinterpret_cast<Pack<S, V>*>(to) = pack;
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] = pack.v[i];
  }
}

}  // namespace cuda
}  // namespace garfast

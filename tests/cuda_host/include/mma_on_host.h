// The functions of garfast/mma.h on the CPU, fragment for fragment as the PTX ISA lays them out.
#pragma once

#include <cuda_runtime.h>

#include <utility>
#include <vector>

#include "garfast/scalar.h"

namespace garfast {
namespace cuda {

using SharedAddress = uintptr_t;

inline SharedAddress shared_address(const void* p) { return reinterpret_cast<uintptr_t>(p); }

inline unsigned thread_number() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }

inline void require_aligned(uintptr_t address) {
  if (address % 16) throw std::runtime_error("an address is not aligned to 16 bytes");
}

struct PendingCopy {
  SharedAddress to;
  const void* from;
  bool valid;
};
inline std::vector<PendingCopy> pending_copies[1024];

// Nothing arrives before it is waited for, so that a missing wait shows.
inline void copy_async(SharedAddress to, const void* from, bool valid) {
  require_aligned(to);
  require_aligned(reinterpret_cast<uintptr_t>(from));
  pending_copies[thread_number()].push_back({to, from, valid});
}

inline void wait_for_copies() {
  std::vector<PendingCopy>& pending = pending_copies[thread_number()];
  for (const PendingCopy& copy : pending) {
    if (copy.valid)
      std::memcpy(reinterpret_cast<void*>(copy.to), copy.from, 16);
    else
      std::memset(reinterpret_cast<void*>(copy.to), 0, 16);
  }
  pending.clear();
}

inline void load_matrices(uint32_t (&r)[4], SharedAddress row) {
  require_aligned(row);
  const uint64_t* rows = cuda_host::warp_exchange(0xffffffffu, row);
  const unsigned lane = cuda_host::lane();
  for (unsigned j = 0; j < 4; ++j)
    std::memcpy(&r[j], reinterpret_cast<const char*>(rows[8 * j + lane / 4]) + 4 * (lane % 4), 4);
}

// The numbers in one register: one tf32 (the low 13 bits are cut off, as by the tensor cores) or two 16-bit numbers.
template <typename S>
inline float element(uint32_t bits, int i) {
  if constexpr (sizeof(S) == 4)
    return i == 0 ? baseline::bits_float(bits & 0xffffe000u) : 0.0f;
  else
    return baseline::widen(S{uint16_t(bits >> (16 * i))});
}

struct Fragments {
  uint32_t a[4], b[2];
};

template <typename S>
inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t* b) {
  // A lane may reach its next product before others have read this one, but not the one after that.
  static Fragments given[1024][2];
  static unsigned turn[1024];
  const unsigned thread = thread_number(), lane = cuda_host::lane(), g = lane / 4, t = lane % 4;
  Fragments& mine = given[thread][turn[thread]++ % 2];
  std::memcpy(mine.a, a, sizeof(mine.a));
  std::memcpy(mine.b, b, sizeof(mine.b));
  const uint64_t* all = cuda_host::warp_exchange(0xffffffffu, reinterpret_cast<uintptr_t>(&mine));
  const auto of = [&](unsigned from) -> const Fragments& { return *reinterpret_cast<const Fragments*>(all[from]); };
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = i / 2, column = 2 * t + i % 2;  // row: g or g + 8
    for (unsigned k = 0; k < 8; ++k) {
      const uint32_t left = of(4 * g + k % 4).a[row + 2 * (k / 4)], right = of(4 * column + k % 4).b[k / 4];
      for (int half = 0; half < 2; ++half) d[i] += element<S>(left, half) * element<S>(right, half);
    }
  }
}

inline uint32_t to_tf32(float x) {
  const uint32_t bits = baseline::float_bits(x);
  const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
  return (finite ? bits + 0x1000u : bits) & 0xffffe000u;
}

template <typename S>
inline uint32_t pack(float low, float high) {
  return uint32_t(baseline::narrow<S>(low).bits) | uint32_t(baseline::narrow<S>(high).bits) << 16;
}

}  // namespace cuda
}  // namespace garfast

// Device and stream as Python passes them: an index and cudaStream_t's address.
#pragma once

#include <cstdint>

#include "garfast/cuda_launch.h"

namespace garfast {
namespace cuda {

// PyTorch has made this device current in its own copy of the CUDA runtime; ours must agree before a launch.
inline void use_device(int device) {
  int current = -1;
  check(cudaGetDevice(&current), "cudaGetDevice");
  if (current != device) check(cudaSetDevice(device), "cudaSetDevice");
}

inline cudaStream_t as_stream(std::uintptr_t address) { return reinterpret_cast<cudaStream_t>(address); }

}  // namespace cuda
}  // namespace garfast

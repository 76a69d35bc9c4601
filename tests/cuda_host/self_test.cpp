// Kernels that the harness must run right, and one that it must refuse. Prints one line per check.
#include <cstdio>
#include <numeric>
#include <vector>

#include "garfast/cuda_launch.h"

namespace {

// Block sum through dynamic shared memory, warp shuffles and one barrier.
__global__ void block_sum(const int* x, int* sums, int n) {
  GARFAST_DYNAMIC_SHARED(int, partial);
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  int value = i < n ? x[i] : 0;
  for (int offset = 16; offset; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x == 0) {
    int total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) total += partial[w];
    sums[blockIdx.x] = total;
  }
}

// Reads its neighbour's value; `synchronise` false leaves the barrier out.
__global__ void rotate(int* x, bool synchronise) {
  __shared__ int shared[64];
  shared[threadIdx.x] = int(threadIdx.x) + x[0];
  if (synchronise) __syncthreads();
  const int neighbour = shared[(threadIdx.x + 1) % 64];
  if (synchronise) __syncthreads();
  x[1 + threadIdx.x] = neighbour;
}

__global__ void divergent_barrier(int* x) {
  if (threadIdx.x < 16) __syncthreads();
  __shfl_sync(0xffffffffu, x[0], 0);
}

bool rotated(bool synchronise) {
  bool right = true;
  for (int round = 0; round < 20; ++round) {
    std::vector<int> x(65, 1000 * round);
    garfast::cuda::launch("rotate", rotate, 1, 64, 0, nullptr, x.data(), synchronise);
    for (int i = 0; i < 64; ++i) right &= x[1 + i] == 1000 * round + (i + 1) % 64;
  }
  return right;
}

}  // namespace

int main() {
  std::vector<int> x(1000), sums(4);
  std::iota(x.begin(), x.end(), 0);
  garfast::cuda::launch("block_sum", block_sum, 4, 256, 8 * sizeof(int), nullptr, x.data(), sums.data(), 1000);
  std::printf("sums %s\n", std::accumulate(sums.begin(), sums.end(), 0) == 499500 ? "right" : "wrong");
  std::printf("with barrier %s\n", rotated(true) ? "right" : "wrong");
  std::printf("without barrier %s\n", rotated(false) ? "right" : "wrong");
  try {
    garfast::cuda::launch("divergent_barrier", divergent_barrier, 1, 32, 0, nullptr, x.data());
    std::printf("divergent barrier unnoticed\n");
  } catch (const std::runtime_error& error) {
    std::printf("divergent barrier refused\n");
  }
}

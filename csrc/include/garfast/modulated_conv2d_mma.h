// Forward of modulated_conv2d as one tensor-core implicit GEMM:
//     y = clamp(act(d m conv(s x, w) + t + strength noise + bias) gain)
// with conv a 1x1 or 3x3 correlation of the same size, or (up = 2) the 3x3 transposed convolution of stride 2 followed
// by a separable 4-tap FIR. Products in S (float: as tf32), sums in float.
#pragma once

#include <cstdint>

#include "garfast/noise_bias_act.h"

namespace garfast {

template <typename S>
struct ModulatedConvMmaParams {
  const S* x;           // [B, H, W, C_in]
  const S* weight;      // [C_out, kernel, kernel, C_in]
  const float* style;   // s [B, C_in], or null for 1
  const float* filter;  // [4], up = 2 only: convolved with the up-sampled rows and columns ...
  float filter_gain;    // ... times this, in each direction
  EpilogueTerms<S> terms;
  S* f;                // [B, C_out, up H, up W] out: conv(s x, w), or null
  S* y;                // [B, C_out, up H, up W] out
  bool channels_last;  // layout of f, y and of the maps per element
  int64_t batch;
  int in_channels;                  // a multiple of 16 bytes; x and weight aligned to 16 bytes, style too
  int out_channels, height, width;  // height and width of x; a sample of x or y has fewer than 2^31 elements
};

// Tiles; output pixels x channels of a block, see csrc/cuda/conv_mma_kernel.h.
enum class MmaTile {
  kSame3x3 = 0,        // 8 x 16 x 128
  kSame3x3Narrow = 1,  // 8 x 16 x 64
  kSame1x1 = 2,        // 8 x 16 x 64
  kUp = 3,             // 10 x 32 x 32
  kUpLarge = 4,        // 24 x 32 x 32: less redundant work, 126 KiB of shared memory
};

}  // namespace garfast

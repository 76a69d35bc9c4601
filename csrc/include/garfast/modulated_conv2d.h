// What modulated_conv2d does after its transposed convolution: blur and epilogue in one pass. (Without up-sampling its
// convolution is the library's between two calls of noise_bias_act: modulation is that operator with d alone.)
#pragma once

#include <cstdint>

#include "garfast/noise_bias_act.h"
#include "garfast/upfirdn2d.h"

namespace garfast {

// f = the filter over x, y = clamp(act(f * d * m + t + strength * noise + bias) * gain)
template <typename S>
struct BlurEpilogueParams {
  Upfirdn2dParams<S> blur;  // blur.y: f out, or null: not wanted
  EpilogueShape shape;      // of y; its blocks are not used
  EpilogueTerms<S> terms;
  S* y;  // [outer, out_height, out_width, inner] out
  int num_threads;
};

GARFAST_DECLARE_CPU(blur_epilogue, BlurEpilogueParams<float>)
GARFAST_DECLARE_CPU(blur_epilogue, BlurEpilogueParams<double>)
GARFAST_DECLARE_CPU(blur_epilogue, BlurEpilogueParams<Half>)
GARFAST_DECLARE_CPU(blur_epilogue, BlurEpilogueParams<BFloat16>)

}  // namespace garfast

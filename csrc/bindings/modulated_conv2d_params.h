// The argument list that garfast._cpu and garfast._cuda share for the end of an up-sampling modulated_conv2d.
#pragma once

#include "garfast/modulated_conv2d.h"
#include "noise_bias_act_params.h"
#include "upfirdn2d_params.h"

namespace garfast {

template <typename S>
BlurEpilogueParams<S> blur_epilogue_params(const FirArgs& fir, const Upfirdn2dSizes& sizes, const ShapeArgs& shape,
                                           const TermArgs& terms, Address x, Address f, Address y) {
  return {upfirdn2d_params<S>(fir, sizes, x, f), epilogue_shape(shape), epilogue_terms<S>(terms), out<S>(y), 1};
}

}  // namespace garfast

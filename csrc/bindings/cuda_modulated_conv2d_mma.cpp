#include <pybind11/stl.h>

#include "cuda_bindings.h"
#include "cuda_device.h"
#include "garfast/cuda_kernels.h"
#include "noise_bias_act_params.h"

namespace garfast {
namespace modulated_conv2d_mma_binding {

// batch, in_channels, out_channels, height and width of x, channels_last
using ConvArgs = std::tuple<int64_t, int, int, int, int, bool>;

template <typename S>
void forward(int device, Address stream, const ConvArgs& conv, const TermArgs& terms, Address x, Address weight,
             Address style, Address filter, float filter_gain, Address f, Address y, int tile) {
  const auto [batch, in_channels, out_channels, height, width, channels_last] = conv;
  cuda::use_device(device);
  cuda::modulated_conv2d_mma(
      {in<S>(x), in<S>(weight), in<float>(style), in<float>(filter), filter_gain, epilogue_terms<S>(terms), out<S>(f),
       out<S>(y), channels_last, batch, in_channels, out_channels, height, width},
      MmaTile(tile), cuda::as_stream(stream));
}

}  // namespace modulated_conv2d_mma_binding

void bind_cuda_modulated_conv2d_mma(py::module_& m) {
  using namespace modulated_conv2d_mma_binding;
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("modulated_conv2d_mma_float32", &forward<float>, nogil);
  m.def("modulated_conv2d_mma_float16", &forward<Half>, nogil);
  m.def("modulated_conv2d_mma_bfloat16", &forward<BFloat16>, nogil);
}

}  // namespace garfast

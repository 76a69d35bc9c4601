#include <pybind11/stl.h>

#include "cuda_bindings.h"
#include "cuda_device.h"
#include "garfast/cuda_kernels.h"
#include "noise_bias_act_params.h"

namespace garfast {
namespace noise_bias_act_binding {

template <typename S>
void forward(int device, Address stream, const ShapeArgs& shape, const TermArgs& terms, Address x, Address y) {
  cuda::use_device(device);
  cuda::noise_bias_act_forward(noise_bias_act_params<S>(shape, terms, x, y), cuda::as_stream(stream));
}

template <typename S, typename... Args>
void backward(int device, Address stream, const ShapeArgs& shape, const TermArgs& terms, Args... args) {
  cuda::use_device(device);
  cuda::noise_bias_act_backward(noise_bias_act_backward_params<S>(shape, terms, args...), cuda::as_stream(stream));
}

template <typename S>
void bind(py::module_& m, const std::string& dtype) {
  using P = Address;
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def(("noise_bias_act_forward_" + dtype).c_str(), &forward<S>, nogil);
  m.def(("noise_bias_act_backward_" + dtype).c_str(), &backward<S, P, P, P, P, P, P, P, P, P, P>, nogil);
}

}  // namespace noise_bias_act_binding

void bind_cuda_noise_bias_act(py::module_& m) {
  using namespace noise_bias_act_binding;
  bind<float>(m, "float32");
  bind<double>(m, "float64");
  bind<Half>(m, "float16");
  bind<BFloat16>(m, "bfloat16");
}

}  // namespace garfast

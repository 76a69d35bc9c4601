#include <pybind11/stl.h>

#include <tuple>

#include "cuda_bindings.h"
#include "cuda_device.h"
#include "garfast/cuda_kernels.h"
#include "pointers.h"

namespace garfast {
namespace demodulation_binding {

// batch, outputs, inputs, taps, and the weight's strides along inputs and taps
using DemodulationSizes = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;

template <typename S>
void demodulation(int device, Address stream, const DemodulationSizes& sizes, double eps, Address weight, Address style,
                  Address d, Address norms) {
  using A = accumulate_t<S>;
  const auto [batch, outputs, inputs, taps, input_stride, tap_stride] = sizes;
  cuda::use_device(device);
  cuda::demodulation(DemodulationParams<S>{in<S>(weight), input_stride, tap_stride, in<A>(style), out<A>(d),
                                           out<A>(norms), batch, outputs, inputs, taps, A(eps)},
                     cuda::as_stream(stream));
}

}  // namespace demodulation_binding

void bind_cuda_demodulation(py::module_& m) {
  using namespace demodulation_binding;
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("demodulation_float32", &demodulation<float>, nogil);
  m.def("demodulation_float64", &demodulation<double>, nogil);
  m.def("demodulation_float16", &demodulation<Half>, nogil);
  m.def("demodulation_bfloat16", &demodulation<BFloat16>, nogil);
}

}  // namespace garfast

#include <pybind11/stl.h>

#include "cpu_bindings.h"
#include "noise_bias_act_params.h"

namespace garfast {
namespace noise_bias_act_binding {

template <typename S>
void forward(int num_threads, const ShapeArgs& shape, const TermArgs& terms, Address x, Address y) {
  auto p = noise_bias_act_params<S>(shape, terms, x, y);
  p.num_threads = num_threads;
  GARFAST_CALL_CPU(noise_bias_act_forward, p);
}

template <typename S, typename... Args>
void backward(int num_threads, const ShapeArgs& shape, const TermArgs& terms, Args... args) {
  auto p = noise_bias_act_backward_params<S>(shape, terms, args...);
  p.num_threads = num_threads;
  GARFAST_CALL_CPU(noise_bias_act_backward, p);
}

template <typename S>
void bind(py::module_& m, const std::string& dtype) {
  using P = Address;
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def(("noise_bias_act_forward_" + dtype).c_str(), &forward<S>, nogil);
  m.def(("noise_bias_act_backward_" + dtype).c_str(), &backward<S, P, P, P, P, P, P, P, P, P, P, P>, nogil);
}

}  // namespace noise_bias_act_binding

void bind_noise_bias_act(py::module_& m) {
  using namespace noise_bias_act_binding;
  bind<float>(m, "float32");
  bind<double>(m, "float64");
  bind<Half>(m, "float16");
  bind<BFloat16>(m, "bfloat16");
}

}  // namespace garfast

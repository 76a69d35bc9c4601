#include <pybind11/stl.h>

#include "cpu_bindings.h"
#include "upfirdn2d_params.h"

namespace garfast {
namespace upfirdn2d_binding {

template <typename S>
void run(int num_threads, const FirArgs& fir, const Upfirdn2dSizes& sizes, std::uintptr_t x, std::uintptr_t y) {
  auto p = upfirdn2d_params<S>(fir, sizes, x, y);
  p.num_threads = num_threads;
  GARFAST_CALL_CPU(upfirdn2d, p);
}

}  // namespace upfirdn2d_binding

void bind_upfirdn2d(py::module_& m) {
  using namespace upfirdn2d_binding;
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("upfirdn2d_float32", &run<float>, nogil);
  m.def("upfirdn2d_float64", &run<double>, nogil);
  m.def("upfirdn2d_float16", &run<Half>, nogil);
  m.def("upfirdn2d_bfloat16", &run<BFloat16>, nogil);
}

}  // namespace garfast

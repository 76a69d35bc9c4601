#include <pybind11/stl.h>

#include "cpu_bindings.h"
#include "modulated_conv2d_params.h"

namespace garfast {
namespace modulated_conv2d_binding {

template <typename S>
void blur_epilogue(int num_threads, const FirArgs& fir, const Upfirdn2dSizes& sizes, const ShapeArgs& shape,
                   const TermArgs& terms, Address x, Address f, Address y) {
  auto p = blur_epilogue_params<S>(fir, sizes, shape, terms, x, f, y);
  p.num_threads = num_threads;
  GARFAST_CALL_CPU(blur_epilogue, p);
}

}  // namespace modulated_conv2d_binding

void bind_modulated_conv2d(py::module_& m) {
  using namespace modulated_conv2d_binding;
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("blur_epilogue_float32", &blur_epilogue<float>, nogil);
  m.def("blur_epilogue_float64", &blur_epilogue<double>, nogil);
  m.def("blur_epilogue_float16", &blur_epilogue<Half>, nogil);
  m.def("blur_epilogue_bfloat16", &blur_epilogue<BFloat16>, nogil);
}

}  // namespace garfast

#include <pybind11/stl.h>

#include "cpu_bindings.h"
#include "rasterize_normals_params.h"

namespace garfast {
namespace rasterize_normals_binding {

template <typename T, typename... Args>
void forward(int num_threads, Args... args) {
  auto p = rasterize_params<T>(args...);
  p.num_threads = num_threads;
  GARFAST_CALL_CPU(rasterize_normals_forward, p);
}

template <typename T, typename... Args>
void backward(int num_threads, Args... args) {
  auto p = rasterize_backward_params<T>(args...);
  p.num_threads = num_threads;
  GARFAST_CALL_CPU(rasterize_normals_backward, p);
}

using P = std::uintptr_t;
using Sizes = std::vector<int64_t>;

template <typename T>
constexpr auto forward_of =
    &forward<T, P, P, P, P, P, P, P, P, P, P, P, Sizes, int64_t, int64_t, int64_t, bool, bool, double>;
template <typename T>
constexpr auto backward_of =
    &backward<T, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, Sizes, int64_t, int64_t, int64_t, bool, bool, double>;

}  // namespace rasterize_normals_binding

void bind_rasterize_normals(py::module_& m) {
  using namespace rasterize_normals_binding;
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("rasterize_normals_forward_float32", forward_of<float>, nogil);
  m.def("rasterize_normals_forward_float64", forward_of<double>, nogil);
  m.def("rasterize_normals_backward_float32", backward_of<float>, nogil);
  m.def("rasterize_normals_backward_float64", backward_of<double>, nogil);
}

}  // namespace garfast

#include <pybind11/stl.h>

#include "antialias_normals_params.h"
#include "cpu_bindings.h"

namespace garfast {
namespace antialias_normals_binding {

template <typename T, typename... Args>
void forward(int num_threads, const Args&... args) {
  auto p = antialias_params<T>(args...);
  p.num_threads = num_threads;
  GARFAST_CALL_CPU(antialias_normals_forward, p);
}

template <typename T, typename... Args>
void backward(int num_threads, const Args&... args) {
  auto p = antialias_backward_params<T>(args...);
  p.num_threads = num_threads;
  GARFAST_CALL_CPU(antialias_normals_backward, p);
}

template <size_t N>
using Addresses = std::array<std::uintptr_t, N>;
using Sizes = std::vector<int64_t>;

template <typename T>
constexpr auto forward_of =
    &forward<T, Addresses<12>, Addresses<3>, Sizes, int64_t, int64_t, int64_t, bool, bool, double>;
template <typename T>
constexpr auto backward_of =
    &backward<T, Addresses<12>, Addresses<5>, Addresses<5>, Sizes, int64_t, int64_t, int64_t, bool, bool, double>;

}  // namespace antialias_normals_binding

void bind_antialias_normals(py::module_& m) {
  using namespace antialias_normals_binding;
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("antialias_normals_forward_float32", forward_of<float>, nogil);
  m.def("antialias_normals_forward_float64", forward_of<double>, nogil);
  m.def("antialias_normals_backward_float32", backward_of<float>, nogil);
  m.def("antialias_normals_backward_float64", backward_of<double>, nogil);
}

}  // namespace garfast

#include "cpu_bindings.h"
#include "vertex_normals_params.h"

namespace garfast {
namespace vertex_normals_binding {

template <typename T, typename... Args>
void forward(int num_threads, Args... args) {
  auto p = vertex_normals_params<T>(args...);
  p.num_threads = num_threads;
  GARFAST_CALL_CPU(vertex_normals_forward, p);
}

template <typename T, typename... Args>
void backward(int num_threads, Args... args) {
  auto p = vertex_normals_backward_params<T>(args...);
  p.num_threads = num_threads;
  GARFAST_CALL_CPU(vertex_normals_backward, p);
}

using P = std::uintptr_t;

}  // namespace vertex_normals_binding

void bind_vertex_normals(py::module_& m) {
  using namespace vertex_normals_binding;
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("vertex_normals_forward_float32", &forward<float, P, P, P, P, P, P, int64_t, int64_t>, nogil);
  m.def("vertex_normals_forward_float64", &forward<double, P, P, P, P, P, P, int64_t, int64_t>, nogil);
  m.def("vertex_normals_backward_float32", &backward<float, P, P, P, P, P, P, P, P, P, int64_t, int64_t>, nogil);
  m.def("vertex_normals_backward_float64", &backward<double, P, P, P, P, P, P, P, P, P, int64_t, int64_t>, nogil);
}

}  // namespace garfast

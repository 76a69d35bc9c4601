#include <pybind11/stl.h>

#include "cuda_bindings.h"
#include "cuda_device.h"
#include "garfast/cuda_kernels.h"
#include "rasterize_normals_params.h"

namespace garfast {
namespace rasterize_normals_binding {

template <typename... Args>
void forward(int device, std::uintptr_t stream, Args... args) {
  cuda::use_device(device);
  cuda::rasterize_normals_forward(rasterize_params<float>(args...), cuda::as_stream(stream));
}

template <typename... Args>
void backward(int device, std::uintptr_t stream, Args... args) {
  cuda::use_device(device);
  cuda::rasterize_normals_backward(rasterize_backward_params<float>(args...), cuda::as_stream(stream));
}

using P = std::uintptr_t;
using Sizes = std::vector<int64_t>;

}  // namespace rasterize_normals_binding

void bind_cuda_rasterize_normals(py::module_& m) {
  using namespace rasterize_normals_binding;
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("rasterize_normals_forward_float32",
        &forward<P, P, P, P, P, P, P, P, P, P, P, Sizes, int64_t, int64_t, int64_t, bool, bool, double>, nogil);
  m.def("rasterize_normals_backward_float32",
        &backward<P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, Sizes, int64_t, int64_t, int64_t, bool, bool, double>,
        nogil);
}

}  // namespace garfast

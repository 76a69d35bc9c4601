#include <pybind11/stl.h>

#include "antialias_normals_params.h"
#include "cuda_bindings.h"
#include "cuda_device.h"
#include "garfast/cuda_kernels.h"

namespace garfast {
namespace antialias_normals_binding {

template <typename... Args>
void forward(int device, std::uintptr_t stream, const Args&... args) {
  cuda::use_device(device);
  cuda::antialias_normals_forward(antialias_params<float>(args...), cuda::as_stream(stream));
}

template <typename... Args>
void backward(int device, std::uintptr_t stream, const Args&... args) {
  cuda::use_device(device);
  cuda::antialias_normals_backward(antialias_backward_params<float>(args...), cuda::as_stream(stream));
}

template <size_t N>
using Addresses = std::array<std::uintptr_t, N>;
using Sizes = std::vector<int64_t>;

}  // namespace antialias_normals_binding

void bind_cuda_antialias_normals(py::module_& m) {
  using namespace antialias_normals_binding;
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("antialias_normals_forward_float32",
        &forward<Addresses<12>, Addresses<3>, Sizes, int64_t, int64_t, int64_t, bool, bool, double>, nogil);
  m.def("antialias_normals_backward_float32",
        &backward<Addresses<12>, Addresses<5>, Addresses<5>, Sizes, int64_t, int64_t, int64_t, bool, bool, double>,
        nogil);
}

}  // namespace garfast

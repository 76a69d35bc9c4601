// The parts of garfast._cuda, one function per operator.
#pragma once

#include <pybind11/pybind11.h>

namespace garfast {

namespace py = pybind11;

void bind_cuda_demodulation(py::module_& m);
void bind_cuda_modulated_conv2d(py::module_& m);
void bind_cuda_modulated_conv2d_mma(py::module_& m);
void bind_cuda_antialias_normals(py::module_& m);
void bind_cuda_noise_bias_act(py::module_& m);
void bind_cuda_upfirdn2d(py::module_& m);
void bind_cuda_rasterize_normals(py::module_& m);
void bind_cuda_vertex_normals(py::module_& m);

}  // namespace garfast

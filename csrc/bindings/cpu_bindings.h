// The parts of garfast._cpu, one function per operator.
#pragma once

#include <pybind11/pybind11.h>

namespace garfast {

namespace py = pybind11;

void bind_conv_planes(py::module_& m);
void bind_modulated_conv2d(py::module_& m);
void bind_antialias_normals(py::module_& m);
void bind_noise_bias_act(py::module_& m);
void bind_upfirdn2d(py::module_& m);
void bind_rasterize_normals(py::module_& m);
void bind_vertex_normals(py::module_& m);
void bind_synth(py::module_& m);

}  // namespace garfast

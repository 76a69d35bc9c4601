// garfast._cuda: the CUDA kernels behind plain functions of device, stream, addresses and sizes.
#include <cuda_runtime.h>

#include "cuda_bindings.h"

PYBIND11_MODULE(_cuda, m) {
  using namespace garfast;
  m.doc() = "CUDA kernels of garfast.ops: functions of device, stream, addresses and sizes; use garfast.ops instead.";
  m.attr("architectures") = GARFAST_CUDA_ARCHITECTURES;
  m.attr("cuda_version") = CUDART_VERSION;
  bind_cuda_demodulation(m);
  bind_cuda_modulated_conv2d(m);
  bind_cuda_modulated_conv2d_mma(m);
  bind_cuda_antialias_normals(m);
  bind_cuda_noise_bias_act(m);
  bind_cuda_upfirdn2d(m);
  bind_cuda_rasterize_normals(m);
  bind_cuda_vertex_normals(m);
}

// The launchers of csrc/cuda, one per operator and direction. Each enqueues on `stream` of the current device and
// returns at once: no synchronisation, no allocation, safe to capture in a CUDA graph. Throws std::runtime_error.
#pragma once

#include <cuda_runtime.h>

#include "garfast/antialias_normals.h"
#include "garfast/demodulation.h"
#include "garfast/modulated_conv2d.h"
#include "garfast/modulated_conv2d_mma.h"
#include "garfast/noise_bias_act.h"
#include "garfast/rasterize_normals.h"
#include "garfast/upfirdn2d.h"
#include "garfast/vertex_normals.h"

namespace garfast {
namespace cuda {

void demodulation(const DemodulationParams<float>& p, cudaStream_t stream);
void demodulation(const DemodulationParams<double>& p, cudaStream_t stream);
void demodulation(const DemodulationParams<Half>& p, cudaStream_t stream);
void demodulation(const DemodulationParams<BFloat16>& p, cudaStream_t stream);

void modulated_conv2d_mma(const ModulatedConvMmaParams<float>& p, MmaTile tile, cudaStream_t stream);
void modulated_conv2d_mma(const ModulatedConvMmaParams<Half>& p, MmaTile tile, cudaStream_t stream);
void modulated_conv2d_mma(const ModulatedConvMmaParams<BFloat16>& p, MmaTile tile, cudaStream_t stream);

void antialias_normals_forward(const AntialiasParams<float>& p, cudaStream_t stream);
void antialias_normals_backward(const AntialiasBackwardParams<float>& p, cudaStream_t stream);
void noise_bias_act_forward(const NoiseBiasActParams<float>& p, cudaStream_t stream);
void noise_bias_act_forward(const NoiseBiasActParams<double>& p, cudaStream_t stream);
void noise_bias_act_forward(const NoiseBiasActParams<Half>& p, cudaStream_t stream);
void noise_bias_act_forward(const NoiseBiasActParams<BFloat16>& p, cudaStream_t stream);
void noise_bias_act_backward(const NoiseBiasActBackwardParams<float>& p, cudaStream_t stream);
void noise_bias_act_backward(const NoiseBiasActBackwardParams<double>& p, cudaStream_t stream);
void noise_bias_act_backward(const NoiseBiasActBackwardParams<Half>& p, cudaStream_t stream);
void noise_bias_act_backward(const NoiseBiasActBackwardParams<BFloat16>& p, cudaStream_t stream);

void blur_epilogue(const BlurEpilogueParams<float>& p, cudaStream_t stream);
void blur_epilogue(const BlurEpilogueParams<double>& p, cudaStream_t stream);
void blur_epilogue(const BlurEpilogueParams<Half>& p, cudaStream_t stream);
void blur_epilogue(const BlurEpilogueParams<BFloat16>& p, cudaStream_t stream);

void upfirdn2d(const Upfirdn2dParams<float>& p, cudaStream_t stream);
void upfirdn2d(const Upfirdn2dParams<double>& p, cudaStream_t stream);
void upfirdn2d(const Upfirdn2dParams<Half>& p, cudaStream_t stream);
void upfirdn2d(const Upfirdn2dParams<BFloat16>& p, cudaStream_t stream);

void rasterize_normals_forward(const RasterizeParams<float>& p, cudaStream_t stream);
void rasterize_normals_backward(const RasterizeBackwardParams<float>& p, cudaStream_t stream);
void vertex_normals_forward(const VertexNormalsParams<float>& p, cudaStream_t stream);
void vertex_normals_forward(const VertexNormalsParams<double>& p, cudaStream_t stream);
void vertex_normals_backward(const VertexNormalsBackwardParams<float>& p, cudaStream_t stream);
void vertex_normals_backward(const VertexNormalsBackwardParams<double>& p, cudaStream_t stream);

}  // namespace cuda
}  // namespace garfast

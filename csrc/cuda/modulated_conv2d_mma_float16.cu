#include "conv_mma_kernel.h"
#include "garfast/cuda_kernels.h"

namespace garfast {
namespace cuda {

void modulated_conv2d_mma(const ModulatedConvMmaParams<Half>& p, MmaTile tile, cudaStream_t stream) {
  conv_mma::forward(p, tile, stream);
}

}  // namespace cuda
}  // namespace garfast

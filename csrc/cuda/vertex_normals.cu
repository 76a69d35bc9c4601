// One thread per vertex gathers over its corners: deterministic, no atomics. The mesh (tens of thousands of vertices)
// stays in L2, so the gathers cost little; the launch dominates at batch 1.
#include "garfast/cuda_kernels.h"
#include "garfast/cuda_launch.h"

namespace garfast {
namespace cuda {
namespace {

using baseline::vertex_normal;
using baseline::vertex_normal_grad_sum;
using baseline::vertex_normal_grad_vertex;

constexpr int kThreads = 128;

template <typename T>
__global__ void __launch_bounds__(kThreads) forward_kernel(VertexNormalsParams<T> p) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= p.batch * p.num_vertices) return;
  const int64_t b = i / p.num_vertices, v = i % p.num_vertices;
  vertex_normal(p.vertices + b * p.num_vertices * 3, p.triangles, p.offsets, p.corners, v, p.normals + 3 * i,
                p.inverse_length + i);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) grad_sum_kernel(VertexNormalsBackwardParams<T> p) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= p.batch * p.num_vertices) return;
  vertex_normal_grad_sum(p.normals + 3 * i, p.inverse_length[i], p.grad_normals + 3 * i, p.grad_sum + 3 * i);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) grad_vertex_kernel(VertexNormalsBackwardParams<T> p) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= p.batch * p.num_vertices) return;
  const int64_t b = i / p.num_vertices, v = i % p.num_vertices;
  const int64_t base = b * p.num_vertices * 3;
  vertex_normal_grad_vertex(p.vertices + base, p.triangles, p.offsets, p.corners, p.grad_sum + base, v,
                            p.grad_vertices + 3 * i);
}

template <typename T>
void forward(const VertexNormalsParams<T>& p, cudaStream_t stream) {
  const int64_t total = p.batch * p.num_vertices;
  if (total == 0) return;
  launch("vertex_normals forward", forward_kernel<T>, blocks_for(total, kThreads), kThreads, 0, stream, p);
}

template <typename T>
void backward(const VertexNormalsBackwardParams<T>& p, cudaStream_t stream) {
  const int64_t total = p.batch * p.num_vertices;
  if (total == 0) return;
  const unsigned blocks = blocks_for(total, kThreads);
  launch("vertex_normals backward", grad_sum_kernel<T>, blocks, kThreads, 0, stream, p);
  launch("vertex_normals backward", grad_vertex_kernel<T>, blocks, kThreads, 0, stream, p);
}

}  // namespace

void vertex_normals_forward(const VertexNormalsParams<float>& p, cudaStream_t stream) { forward(p, stream); }
void vertex_normals_forward(const VertexNormalsParams<double>& p, cudaStream_t stream) { forward(p, stream); }
void vertex_normals_backward(const VertexNormalsBackwardParams<float>& p, cudaStream_t stream) { backward(p, stream); }
void vertex_normals_backward(const VertexNormalsBackwardParams<double>& p, cudaStream_t stream) { backward(p, stream); }

}  // namespace cuda
}  // namespace garfast

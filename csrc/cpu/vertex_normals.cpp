#include "garfast/vertex_normals.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

// Below this many vertices starting threads costs more than it saves.
constexpr int64_t kSerial = 2048;

template <typename T>
void forward(const VertexNormalsParams<T>& p) {
  const int64_t total = p.batch * p.num_vertices;
#pragma omp parallel for num_threads(p.num_threads) schedule(static) if (total > kSerial)
  for (int64_t i = 0; i < total; ++i) {
    const int64_t b = i / p.num_vertices, v = i % p.num_vertices;
    vertex_normal(p.vertices + b * p.num_vertices * 3, p.triangles, p.offsets, p.corners, v, p.normals + 3 * i,
                  p.inverse_length + i);
  }
}

template <typename T>
void backward(const VertexNormalsBackwardParams<T>& p) {
  const int64_t total = p.batch * p.num_vertices;
#pragma omp parallel num_threads(p.num_threads) if (total > kSerial)
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < total; ++i)
      vertex_normal_grad_sum(p.normals + 3 * i, p.inverse_length[i], p.grad_normals + 3 * i, p.grad_sum + 3 * i);
    // The loop's implicit barrier: every S gradient is there before any vertex gathers its neighbours'.
#pragma omp for schedule(static)
    for (int64_t i = 0; i < total; ++i) {
      const int64_t b = i / p.num_vertices, v = i % p.num_vertices;
      const int64_t base = b * p.num_vertices * 3;
      vertex_normal_grad_vertex(p.vertices + base, p.triangles, p.offsets, p.corners, p.grad_sum + base, v,
                                p.grad_vertices + 3 * i);
    }
  }
}

}  // namespace

void vertex_normals_forward(const VertexNormalsParams<float>& p) { forward(p); }
void vertex_normals_forward(const VertexNormalsParams<double>& p) { forward(p); }
void vertex_normals_backward(const VertexNormalsBackwardParams<float>& p) { backward(p); }
void vertex_normals_backward(const VertexNormalsBackwardParams<double>& p) { backward(p); }

}  // namespace GARFAST_ISA
}  // namespace garfast

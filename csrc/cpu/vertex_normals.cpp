#include "garfast/vertex_normals.h"

#include <cstring>

#include "rows.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

// Below this many vertices starting threads costs more than it saves.
constexpr int64_t kSerial = 2048;

// c_f of every triangle first, then their sums: a vertex that made those around it anew would make each three times.
template <typename T>
void forward(const VertexNormalsParams<T>& p) {
  typedef T Quad __attribute__((vector_size(4 * sizeof(T))));
  const int64_t total = p.batch * p.num_vertices, triangles = p.offsets[p.num_vertices] / 3;
  Scratch<T> scratch(4 * p.batch * triangles);
  T* weighted = scratch.data();
#pragma omp parallel num_threads(p.num_threads) if (total > kSerial)
  {
    for (int64_t b = 0; b < p.batch; ++b) {
      const T* vertices = p.vertices + b * p.num_vertices * 3;
      T* sample = weighted + 4 * b * triangles;
#pragma omp for schedule(static) nowait
      for (int64_t f = 0; f < triangles; ++f) {
        const Vec3<T> c = weighted_normal(vertices, p.triangles + 3 * f);
        const Quad padded{c.x, c.y, c.z, T(0)};
        std::memcpy(sample + 4 * f, &padded, sizeof(Quad));
      }
    }
#pragma omp barrier
    for (int64_t b = 0; b < p.batch; ++b) {
      const T* sample = weighted + 4 * b * triangles;
      T *normals = p.normals + b * p.num_vertices * 3, *inverse_length = p.inverse_length + b * p.num_vertices;
#pragma omp for schedule(static) nowait
      for (int64_t v = 0; v < p.num_vertices; ++v) {
        Quad sum{};
        for (int32_t j = p.offsets[v]; j < p.offsets[v + 1]; ++j) {
          Quad c;
          std::memcpy(&c, sample + 4 * int64_t(uint32_t(p.corners[j]) / 3), sizeof(Quad));
          sum += c;
        }
        unit_normal(Vec3<T>{sum[0], sum[1], sum[2]}, normals + 3 * v, inverse_length + v);
      }
    }
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

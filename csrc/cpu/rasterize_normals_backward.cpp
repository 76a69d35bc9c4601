// The gradient of the rasteriser on the CPU. Each triangle goes through its own pixels in a fixed order, then each
// vertex through its corners: no atomics, the same bits every time and for any number of threads.
#include <algorithm>

#include "garfast/rasterize_normals.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

template <typename T>
void backward(const RasterizeBackwardParams<T>& p) {
  const int64_t vertices = p.batch * p.num_vertices, triangles = p.batch * p.num_triangles;
#pragma omp parallel num_threads(p.num_threads)
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < vertices; ++i)
      p.screen[i] = raster_vertex(p.vertices + 3 * i, p.vertex_normals + 3 * i, p.camera + 4 * (i / p.num_vertices),
                                  p.pinhole, p.near);
#pragma omp for schedule(dynamic, 256)
    for (int64_t i = 0; i < triangles; ++i) {
      RasterCornerGrad<T> sum[3] = {};
      triangle_backward(p, i / p.num_triangles, int32_t(i % p.num_triangles), 0, 1, sum);
      std::copy(sum, sum + 3, p.grad_corners + 3 * i);
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < vertices; ++i) {
      const int64_t b = i / p.num_vertices, v = i % p.num_vertices;
      raster_vertex_backward(p.grad_corners + 3 * b * p.num_triangles, p.offsets, p.corners, v, p.vertices + 3 * i,
                             p.camera + 4 * b, p.pinhole, p.grad_vertices + 3 * i, p.grad_vertex_normals + 3 * i,
                             p.grad_camera_parts + 4 * i);
    }
  }
}

}  // namespace

void rasterize_normals_backward(const RasterizeBackwardParams<float>& p) { backward(p); }
void rasterize_normals_backward(const RasterizeBackwardParams<double>& p) { backward(p); }

}  // namespace GARFAST_ISA
}  // namespace garfast

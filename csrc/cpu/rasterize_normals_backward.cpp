// The gradient of the rasteriser on the CPU. Each triangle goes through its own pixels in a fixed order, then each
// vertex through its corners: no atomics, the same bits every time and for any number of threads.
#include <algorithm>

#include "garfast/rasterize_normals.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

template <typename T>
void triangle_backward(const RasterizeBackwardParams<T>& p, int64_t b, int64_t triangle) {
  const RasterVertex<T>* screen = p.screen + b * p.num_vertices;
  const int32_t* corners = p.triangles + 3 * triangle;
  RasterCornerGrad<T>* out = p.grad_corners + 3 * (b * p.num_triangles + triangle);
  const RasterCornerGrad<T> zero{T(0), T(0), T(0), {T(0), T(0), T(0)}};
  RasterCornerGrad<T> sum[3] = {zero, zero, zero};
  const RasterVertex<T>&v0 = screen[corners[0]], &v1 = screen[corners[1]], &v2 = screen[corners[2]];
  const T area = screen_area(v0.x, v0.y, v1.x, v1.y, v2.x, v2.y);
  if (area > T(0) || (!p.cull && area < T(0))) {
    T vertex_normals[3][3];
    for (int k = 0; k < 3; ++k)
      for (int c = 0; c < 3; ++c) vertex_normals[k][c] = screen[corners[k]].normal[c];
    for (int level = 0; level < p.levels.count; ++level) {
      const int32_t width = p.levels.width[level], height = p.levels.height[level];
      const T half_width = T(width) * T(0.5), half_height = T(height) * T(0.5);
      const PixelTriangle<T> t = pixel_triangle(screen, corners, half_width, half_height);
      const PixelBox box = pixel_box(t, width, height);
      const int64_t plane = int64_t(height) * width, start = p.batch * p.levels.start[level] + b * plane;
      for (int row = box.top; row <= box.bottom; ++row)
        for (int column = box.left; column <= box.right; ++column) {
          const int64_t pixel = start + int64_t(row) * width + column;
          if (p.ids[pixel] != triangle) continue;
          const int64_t pixel3 = pixel + 2 * start;
          RasterSample<T> s;
          edge_functions(t, T(column) + T(0.5), T(row) + T(0.5), s);
          perspective_weights(t, T(1), s);
          T m[3], gn[3], gb[3], squared = T(0);
          for (int c = 0; c < 3; ++c) {
            m[c] = (s.q[0] * vertex_normals[0][c] + s.q[1] * vertex_normals[1][c] + s.q[2] * vertex_normals[2][c]) *
                   s.inverse;
            squared += m[c] * m[c];
            gn[c] = p.grad_normals ? p.grad_normals[pixel3 + c * plane] : T(0);
            gb[c] = p.grad_barycentrics ? p.grad_barycentrics[pixel3 + c * plane] : T(0);
          }
          pixel_backward(t, s, vertex_normals, m, squared > T(0) ? T(1) / std::sqrt(squared) : T(0), gn, gb,
                         p.grad_depth ? p.grad_depth[pixel] : T(0), half_width, half_height, p.pinhole, sum);
        }
    }
  }
  for (int k = 0; k < 3; ++k) out[k] = sum[k];
}

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
    for (int64_t i = 0; i < triangles; ++i) triangle_backward(p, i / p.num_triangles, i % p.num_triangles);
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

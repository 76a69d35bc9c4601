// The gradient of the rasteriser on the CPU. The pixels of each sample are sorted by the triangle they show; then each
// triangle goes through its own pixels in a fixed order, and each vertex through its corners: no atomics, the same bits
// every time and for any number of threads. Most triangles own no pixel at the coarse levels; the lists spare them the
// look at their boxes.
#include <algorithm>
#include <cstdlib>
#include <new>

#include "garfast/rasterize_normals.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

// An array of our own (see List in rasterize_normals.cpp for why it is no std::vector).
struct Indices {
  int32_t* data;

  explicit Indices(int64_t count)
      : data(static_cast<int32_t*>(std::calloc(std::max<int64_t>(count, 1), sizeof(int32_t)))) {
    if (!data) throw std::bad_alloc();
  }
  Indices(const Indices&) = delete;
  ~Indices() { std::free(data); }
};

// Sorts the pixels of sample b, numbered through all levels, by their triangle. Afterwards those of triangle f are
// pixels[f ? ends[f - 1] : 0] to pixels[ends[f]], in ascending order. ends comes filled with 0.
template <typename T>
void sort_pixels(const RasterizeBackwardParams<T>& p, int64_t b, int32_t* ends, int32_t* pixels) {
  const auto each = [&](auto&& visit) {
    for (int level = 0; level < p.levels.count; ++level) {
      const int64_t plane = int64_t(p.levels.height[level]) * p.levels.width[level];
      const int32_t* ids = p.ids + p.batch * p.levels.start[level] + b * plane;
      for (int64_t i = 0; i < plane; ++i)
        if (ids[i] >= 0) visit(ids[i], int32_t(p.levels.start[level] + i));
    }
  };
  each([&](int32_t triangle, int32_t) { ++ends[triangle]; });
  int32_t before = 0;
  for (int64_t f = 0; f < p.num_triangles; ++f) {
    const int32_t count = ends[f];
    ends[f] = before;
    before += count;
  }
  each([&](int32_t triangle, int32_t pixel) { pixels[ends[triangle]++] = pixel; });
}

template <typename T>
void backward_of_pixels(const RasterizeBackwardParams<T>& p, int64_t b, int32_t triangle, const int32_t* pixels,
                        int32_t count, RasterCornerGrad<T>* sum) {
  const RasterVertex<T>* screen = p.screen + b * p.num_vertices;
  const int32_t* corners = p.triangles + 3 * int64_t(triangle);
  T vertex_normals[3][3];
  for (int k = 0; k < 3; ++k)
    for (int c = 0; c < 3; ++c) vertex_normals[k][c] = screen[corners[k]].normal[c];
  int level = -1;
  int32_t width = 0, height = 0;
  PixelTriangle<T> t{};
  for (int32_t i = 0; i < count; ++i) {
    if (level < 0 || pixels[i] >= p.levels.start[level + 1]) {
      do ++level;
      while (pixels[i] >= p.levels.start[level + 1]);
      width = p.levels.width[level];
      height = p.levels.height[level];
      t = pixel_triangle(screen, corners, T(width) * T(0.5), T(height) * T(0.5));
    }
    const int32_t pixel = pixels[i] - int32_t(p.levels.start[level]);
    const int64_t start = p.batch * p.levels.start[level] + b * int64_t(height) * width;
    visible_pixel_backward(p, t, vertex_normals, start, width, height, pixel / width, pixel % width, sum);
  }
}

template <typename T>
void backward(const RasterizeBackwardParams<T>& p) {
  const int64_t vertices = p.batch * p.num_vertices, triangles = p.batch * p.num_triangles;
  const int64_t per_sample = p.levels.start[p.levels.count];
  const Indices ends(triangles), pixels(p.batch * per_sample);
#pragma omp parallel num_threads(p.num_threads)
  {
#pragma omp for schedule(static) nowait
    for (int64_t i = 0; i < vertices; ++i)
      p.screen[i] = raster_vertex(p.vertices + 3 * i, p.vertex_normals + 3 * i, p.camera + 4 * (i / p.num_vertices),
                                  p.pinhole, p.near);
#pragma omp for schedule(dynamic, 1)
    for (int64_t b = 0; b < p.batch; ++b)
      sort_pixels(p, b, ends.data + b * p.num_triangles, pixels.data + b * per_sample);
#pragma omp for schedule(dynamic, 256)
    for (int64_t i = 0; i < triangles; ++i) {
      const int64_t b = i / p.num_triangles;
      const int32_t triangle = int32_t(i % p.num_triangles);
      const int32_t begin = triangle ? ends.data[i - 1] : 0;
      RasterCornerGrad<T> sum[3] = {};
      backward_of_pixels(p, b, triangle, pixels.data + b * per_sample + begin, ends.data[i] - begin, sum);
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

// Anti-aliasing on the CPU. Slots of one sample and level belong to one thread, so there are no atomics; the pixels
// then gather in parallel.
#include "garfast/antialias_normals.h"

#include <algorithm>

namespace garfast {
namespace GARFAST_ISA {
namespace {

template <typename T>
void project(const AntialiasScene<T>& s) {
  const int64_t total = s.batch * s.num_vertices;
#pragma omp for schedule(static)
  for (int64_t i = 0; i < total; ++i)
    s.screen[i] = raster_vertex(s.vertices + 3 * i, s.vertex_normals + 3 * i, s.camera + 4 * (i / s.num_vertices),
                                s.pinhole, s.near);
}

template <typename T>
void fill_slots(const AntialiasScene<T>& s, int64_t sample) {
  for (int level = 0; level < s.levels.count; ++level) {
    const int64_t begin = slot_index(s.levels, s.batch, {level, sample, -1, -1});
    const int64_t end = begin + 4 * (s.levels.height[level] + 2) * int64_t(s.levels.width[level] + 2);
    std::fill(s.slots + begin, s.slots + end, kEmptySlot);
  }
  for (int64_t t = 0; t < s.num_triangles; ++t)
    visit_outline(s, sample, int32_t(t),
                  [&](const Crossing<T>& x, const OutlineEdge<T>&, int32_t edge, LevelPixel at, int direction) {
                    if (!(x.depth < shown_depth(s, at))) return;
                    unsigned long long& slot = s.slots[slot_index(s.levels, s.batch, at) + direction];
                    slot = std::min(slot, slot_key(x.distance, edge));
                  });
}

// Runs each(pixel) over the rows of all levels and samples.
template <typename T, typename Each>
void for_each_pixel(const AntialiasScene<T>& s, Each each) {
  for (int level = 0; level < s.levels.count; ++level) {
    const int64_t rows = s.batch * s.levels.height[level];
#pragma omp for schedule(static) nowait
    for (int64_t i = 0; i < rows; ++i)
      for (int32_t column = 0; column < s.levels.width[level]; ++column)
        each(LevelPixel{level, i / s.levels.height[level], int32_t(i % s.levels.height[level]), column});
  }
}

template <typename T>
void forward(const AntialiasParams<T>& p) {
#pragma omp parallel num_threads(p.num_threads)
  {
    project(p.scene);
#pragma omp for schedule(dynamic, 1)
    for (int64_t b = 0; b < p.scene.batch; ++b) fill_slots(p.scene, b);
    for_each_pixel(p.scene, [&](LevelPixel pixel) { blend_pixel(p, pixel); });
  }
}

template <typename T>
void backward(const AntialiasBackwardParams<T>& p) {
  const AntialiasScene<T>& s = p.scene;
  const int64_t vertices = s.batch * s.num_vertices, triangles = s.batch * s.num_triangles;
#pragma omp parallel num_threads(p.num_threads)
  {
    project(s);
    for_each_pixel(s, [&](LevelPixel pixel) { blend_pixel_backward(p, pixel); });
#pragma omp for schedule(dynamic, 256)
    for (int64_t i = 0; i < triangles; ++i) {
      RasterCornerGrad<T> sum[3] = {};
      outline_backward(p, i / s.num_triangles, int32_t(i % s.num_triangles), sum);
      std::copy(sum, sum + 3, p.grad_corners + 3 * i);
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < vertices; ++i) {
      const int64_t b = i / s.num_vertices, v = i % s.num_vertices;
      raster_vertex_backward(p.grad_corners + 3 * b * s.num_triangles, s.offsets, s.corners, v, s.vertices + 3 * i,
                             s.camera + 4 * b, s.pinhole, p.grad_vertices + 3 * i, p.grad_vertex_normals + 3 * i,
                             p.grad_camera_parts + 4 * i);
    }
  }
}

}  // namespace

void antialias_normals_forward(const AntialiasParams<float>& p) { forward(p); }
void antialias_normals_forward(const AntialiasParams<double>& p) { forward(p); }
void antialias_normals_backward(const AntialiasBackwardParams<float>& p) { backward(p); }
void antialias_normals_backward(const AntialiasBackwardParams<double>& p) { backward(p); }

}  // namespace GARFAST_ISA
}  // namespace garfast

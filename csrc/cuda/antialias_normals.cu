// Anti-aliasing on the GPU: a thread per triangle looks for outline edges and lets their crossings compete for slots
// with atomicMin on packed 64-bit (distance, edge), then a thread per pixel gathers. Backward: pixels and triangles
// gather, so there are no further atomics and the gradient has the same bits every time.
#include "garfast/antialias_normals.h"
#include "garfast/cuda_kernels.h"
#include "garfast/cuda_launch.h"
#include "garfast/cuda_raster.h"

namespace garfast {
namespace cuda {
namespace {

using namespace baseline;

constexpr int kThreads = kRasterThreads;

__global__ void __launch_bounds__(kThreads) slot_kernel(AntialiasScene<float> s) {
  const int64_t i = thread_number();
  if (i >= s.batch * s.num_triangles) return;
  visit_outline(s, i / s.num_triangles, int32_t(i % s.num_triangles),
                [&](const Crossing<float>& x, const OutlineEdge<float>&, int32_t edge, LevelPixel at, int direction) {
                  if (x.depth < shown_depth(s, at))
                    atomicMin(s.slots + slot_index(s.levels, s.batch, at) + direction, slot_key(x.distance, edge));
                });
}

__global__ void __launch_bounds__(kThreads) blend_kernel(AntialiasParams<float> p, int64_t pixels) {
  const int64_t i = thread_number();
  if (i < pixels) blend_pixel(p, level_pixel(p.scene.levels, p.scene.batch, i));
}

__global__ void __launch_bounds__(kThreads) blend_backward_kernel(AntialiasBackwardParams<float> p, int64_t pixels) {
  const int64_t i = thread_number();
  if (i < pixels) blend_pixel_backward(p, level_pixel(p.scene.levels, p.scene.batch, i));
}

__global__ void __launch_bounds__(kThreads) outline_backward_kernel(AntialiasBackwardParams<float> p) {
  const int64_t i = thread_number();
  if (i >= p.scene.batch * p.scene.num_triangles) return;
  RasterCornerGrad<float> sum[3] = {};
  outline_backward(p, i / p.scene.num_triangles, int32_t(i % p.scene.num_triangles), sum);
  for (int k = 0; k < 3; ++k) p.grad_corners[3 * i + k] = sum[k];
}

__global__ void __launch_bounds__(kThreads) outline_vertex_kernel(AntialiasBackwardParams<float> p) {
  const AntialiasScene<float>& s = p.scene;
  const int64_t i = thread_number();
  if (i >= s.batch * s.num_vertices) return;
  const int64_t b = i / s.num_vertices, v = i % s.num_vertices;
  raster_vertex_backward(p.grad_corners + 3 * b * s.num_triangles, s.offsets, s.corners, v, s.vertices + 3 * i,
                         s.camera + 4 * b, s.pinhole, p.grad_vertices + 3 * i, p.grad_vertex_normals + 3 * i,
                         p.grad_camera_parts + 4 * i);
}

}  // namespace

void antialias_normals_forward(const AntialiasParams<float>& p, cudaStream_t stream) {
  const char* what = "rasterize_normals antialias forward";
  const AntialiasScene<float>& s = p.scene;
  const int64_t pixels = s.batch * s.levels.start[s.levels.count], triangles = s.batch * s.num_triangles;
  if (pixels == 0) return;
  const int64_t slots = 4 * s.batch * s.levels.bordered_start[s.levels.count];
  project(what, s, stream);
  check(cudaMemsetAsync(s.slots, 0xff, size_t(slots) * sizeof(*s.slots), stream), what);
  if (triangles > 0) launch(what, slot_kernel, blocks_for(triangles, kThreads), kThreads, 0, stream, s);
  launch(what, blend_kernel, blocks_for(pixels, kThreads), kThreads, 0, stream, p, pixels);
}

void antialias_normals_backward(const AntialiasBackwardParams<float>& p, cudaStream_t stream) {
  const char* what = "rasterize_normals antialias backward";
  const AntialiasScene<float>& s = p.scene;
  const int64_t pixels = s.batch * s.levels.start[s.levels.count], triangles = s.batch * s.num_triangles;
  const int64_t vertices = s.batch * s.num_vertices;
  project(what, s, stream);
  if (pixels > 0) launch(what, blend_backward_kernel, blocks_for(pixels, kThreads), kThreads, 0, stream, p, pixels);
  if (triangles > 0) launch(what, outline_backward_kernel, blocks_for(triangles, kThreads), kThreads, 0, stream, p);
  if (vertices > 0) launch(what, outline_vertex_kernel, blocks_for(vertices, kThreads), kThreads, 0, stream, p);
}

}  // namespace cuda
}  // namespace garfast

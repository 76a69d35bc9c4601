// What the rasteriser and its anti-aliasing share on the device.
#pragma once

#include "garfast/antialias_normals.h"
#include "garfast/cuda_launch.h"

namespace garfast {
namespace cuda {

constexpr int kRasterThreads = 128;

__device__ inline int64_t thread_number() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

// Which pixel lies at i in a flat buffer of one channel.
__device__ inline baseline::LevelPixel level_pixel(const RasterLevels& levels, int64_t batch, int64_t i) {
  baseline::LevelPixel p{0, 0, 0, 0};
  while (i >= batch * levels.start[p.level + 1]) ++p.level;
  const int64_t plane = int64_t(levels.height[p.level]) * levels.width[p.level], k = i - batch * levels.start[p.level];
  p.sample = k / plane;
  p.row = int32_t(k % plane / levels.width[p.level]);
  p.column = int32_t(k % plane % levels.width[p.level]);
  return p;
}

// Of RasterizeParams, RasterizeBackwardParams or AntialiasScene.
template <typename Params>
__global__ void __launch_bounds__(kRasterThreads) project_kernel(Params p) {
  const int64_t i = thread_number();
  if (i >= p.batch * p.num_vertices) return;
  p.screen[i] = baseline::raster_vertex(p.vertices + 3 * i, p.vertex_normals + 3 * i,
                                        p.camera + 4 * (i / p.num_vertices), p.pinhole, p.near);
}

template <typename Params>
void project(const char* what, const Params& p, cudaStream_t stream) {
  const int64_t vertices = p.batch * p.num_vertices;
  if (vertices > 0)
    launch(what, project_kernel<Params>, blocks_for(vertices, kRasterThreads), kRasterThreads, 0, stream, p);
}

}  // namespace cuda
}  // namespace garfast

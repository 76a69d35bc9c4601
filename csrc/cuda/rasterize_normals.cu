// The rasteriser on the GPU. One pass over all triangles of all samples and levels keeps, for every pixel, the smallest
// 64-bit (depth, triangle) with atomicMin: the result does not depend on the order, there are no bins to overflow and
// nothing to synchronise with the host. A second pass resolves the pixels. Backward: a warp per triangle goes through
// its own pixels and adds up in a fixed order, then each vertex gathers over its corners.
#include "garfast/cuda_kernels.h"
#include "garfast/cuda_launch.h"
#include "garfast/cuda_raster.h"

namespace garfast {
namespace cuda {
namespace {

using namespace baseline;

constexpr int kThreads = kRasterThreads;
constexpr unsigned kWarp = 0xffffffffu;
// A lane goes through boxes of up to this many pixels by itself; its warp helps with bigger ones.
constexpr int kLaneBox = 32;

// Whether a triangle is drawn, and the order of its corners that makes it a front face.
__device__ bool front_order(const RasterVertex<float>* screen, const int32_t* triangle, bool cull, int32_t* order) {
  const RasterVertex<float>&a = screen[triangle[0]], &b = screen[triangle[1]], &c = screen[triangle[2]];
  const float area = screen_area(a.x, a.y, b.x, b.y, c.x, c.y);
  const bool flipped = area < 0.0f;
  order[0] = triangle[0];
  order[1] = triangle[flipped ? 2 : 1];
  order[2] = triangle[flipped ? 1 : 2];
  return area > 0.0f || (flipped && !cull);
}

__device__ void draw_pixel(const PixelTriangle<float>& t, const bool* owned, int32_t triangle, int32_t row,
                           int32_t column, unsigned long long* key) {
  RasterSample<float> s;
  edge_functions(t, float(column) + 0.5f, float(row) + 0.5f, s);
  for (int k = 0; k < 3; ++k)
    if (!(s.e[k] > 0.0f || (s.e[k] == 0.0f && owned[k]))) return;
  perspective_weights(t, 1.0f, s);
  const float depth = sample_depth(t, s);
  if (!(absolute(depth) < std::numeric_limits<float>::infinity())) return;
  const unsigned long long candidate = raster_key(depth, triangle);
  // The plain read may be stale, which costs an atomic and nothing else.
  if (candidate < *key) atomicMin(key, candidate);
}

__global__ void __launch_bounds__(kThreads) draw_kernel(RasterizeParams<float> p) {
  const int64_t i = thread_number();
  const bool exists = i < p.batch * p.num_triangles;
  const int64_t b = exists ? i / p.num_triangles : 0;
  const int32_t triangle = exists ? int32_t(i % p.num_triangles) : 0;
  const RasterVertex<float>* screen = p.screen + b * p.num_vertices;
  int32_t order[3];
  const bool drawn = front_order(screen, p.triangles + 3 * int64_t(triangle), p.cull, order) && exists;
  for (int level = 0; level < p.levels.count; ++level) {
    const int32_t width = p.levels.width[level], height = p.levels.height[level];
    const float half_width = float(width) * 0.5f, half_height = float(height) * 0.5f;
    PixelTriangle<float> t = pixel_triangle(screen, order, half_width, half_height);
    PixelBox box = pixel_box(t, width, height);
    const bool some = drawn && box.left <= box.right && box.top <= box.bottom;
    const int64_t pixels = some ? int64_t(box.right - box.left + 1) * (box.bottom - box.top + 1) : 0;
    bool owned[3];
    owned_edges(t, owned);
    unsigned long long* keys = p.keys + p.batch * p.levels.start[level];
    if (pixels <= kLaneBox) {
      unsigned long long* image = keys + b * int64_t(height) * width;
      for (int32_t k = 0; k < int32_t(pixels); ++k) {
        const int32_t columns = box.right - box.left + 1;
        const int32_t row = box.top + k / columns, column = box.left + k % columns;
        draw_pixel(t, owned, triangle, row, column, image + int64_t(row) * width + column);
      }
    }
    for (unsigned big = __ballot_sync(kWarp, pixels > kLaneBox); big; big &= big - 1) {
      const int source = __ffs(int(big)) - 1;
      const int64_t b2 = __shfl_sync(kWarp, int32_t(b), source);
      const int32_t triangle2 = __shfl_sync(kWarp, triangle, source);
      const RasterVertex<float>* screen2 = p.screen + b2 * p.num_vertices;
      int32_t order2[3];
      front_order(screen2, p.triangles + 3 * int64_t(triangle2), p.cull, order2);
      t = pixel_triangle(screen2, order2, half_width, half_height);
      box = pixel_box(t, width, height);
      owned_edges(t, owned);
      const int64_t columns = box.right - box.left + 1, count = columns * (box.bottom - box.top + 1);
      unsigned long long* image = keys + b2 * int64_t(height) * width;
      for (int64_t k = threadIdx.x % 32; k < count; k += 32) {
        const int32_t row = box.top + int32_t(k / columns), column = box.left + int32_t(k % columns);
        draw_pixel(t, owned, triangle2, row, column, image + int64_t(row) * width + column);
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads) resolve_kernel(RasterizeParams<float> p, int64_t total) {
  const int64_t i = thread_number();
  if (i >= total) return;
  const LevelPixel place = level_pixel(p.levels, p.batch, i);
  const int32_t id = raster_key_triangle(p.keys[i]);
  float b[3] = {0.0f, 0.0f, 0.0f}, n[3] = {0.0f, 0.0f, 0.0f}, depth = 0.0f;
  if (id >= 0) {
    const RasterVertex<float>* screen = p.screen + place.sample * p.num_vertices;
    const int32_t* triangle = p.triangles + 3 * int64_t(id);
    int32_t order[3];
    front_order(screen, triangle, p.cull, order);
    const float half_width = float(p.levels.width[place.level]) * 0.5f;
    const float half_height = float(p.levels.height[place.level]) * 0.5f;
    const PixelTriangle<float> t = pixel_triangle(screen, order, half_width, half_height);
    RasterSample<float> s;
    edge_functions(t, float(place.column) + 0.5f, float(place.row) + 0.5f, s);
    perspective_weights(t, 1.0f, s);
    depth = sample_depth(t, s);
    const bool flipped = order[1] != triangle[1];
    b[0] = product(s.q[0], s.inverse);
    b[1] = product(s.q[flipped ? 2 : 1], s.inverse);
    b[2] = product(s.q[flipped ? 1 : 2], s.inverse);
    float squared = 0.0f;
    for (int c = 0; c < 3; ++c) {
      for (int k = 0; k < 3; ++k) n[c] += b[k] * screen[triangle[k]].normal[c];
      squared += n[c] * n[c];
    }
    const float scale = squared > 0.0f ? 1.0f / std::sqrt(squared) : 0.0f;
    for (int c = 0; c < 3; ++c) n[c] *= scale;
  }
  p.ids[i] = id;
  p.mask[i] = id >= 0 ? 1.0f : 0.0f;
  p.depth[i] = depth;
  const int64_t plane = int64_t(p.levels.height[place.level]) * p.levels.width[place.level];
  const int64_t i3 = flat_index(p.levels, p.batch, place, 3);
  for (int c = 0; c < 3; ++c) {
    p.normals[i3 + c * plane] = n[c];
    p.barycentrics[i3 + c * plane] = b[c];
  }
}

__global__ void __launch_bounds__(kThreads) triangle_backward_kernel(RasterizeBackwardParams<float> p) {
  const int64_t i = thread_number() / 32;
  const int lane = threadIdx.x % 32;
  if (i >= p.batch * p.num_triangles) return;
  RasterCornerGrad<float> sum[3] = {};
  triangle_backward(p, i / p.num_triangles, int32_t(i % p.num_triangles), lane, 32, sum);
  // The butterfly adds in the same order every time.
  float* numbers = &sum[0].x;
  for (int k = 0; k < 18; ++k)
    for (int distance = 16; distance; distance /= 2) numbers[k] += __shfl_xor_sync(kWarp, numbers[k], distance);
  if (lane < 3) p.grad_corners[3 * i + lane] = sum[lane];
}

__global__ void __launch_bounds__(kThreads) vertex_backward_kernel(RasterizeBackwardParams<float> p) {
  const int64_t i = thread_number();
  if (i >= p.batch * p.num_vertices) return;
  const int64_t b = i / p.num_vertices, v = i % p.num_vertices;
  raster_vertex_backward(p.grad_corners + 3 * b * p.num_triangles, p.offsets, p.corners, v, p.vertices + 3 * i,
                         p.camera + 4 * b, p.pinhole, p.grad_vertices + 3 * i, p.grad_vertex_normals + 3 * i,
                         p.grad_camera_parts + 4 * i);
}

}  // namespace

void rasterize_normals_forward(const RasterizeParams<float>& p, cudaStream_t stream) {
  const char* what = "rasterize_normals forward";
  const int64_t pixels = p.batch * p.levels.start[p.levels.count], triangles = p.batch * p.num_triangles;
  if (pixels == 0) return;
  project(what, p, stream);
  check(cudaMemsetAsync(p.keys, 0xff, size_t(pixels) * sizeof(*p.keys), stream), what);
  if (triangles > 0) launch(what, draw_kernel, blocks_for(triangles, kThreads), kThreads, 0, stream, p);
  launch(what, resolve_kernel, blocks_for(pixels, kThreads), kThreads, 0, stream, p, pixels);
}

void rasterize_normals_backward(const RasterizeBackwardParams<float>& p, cudaStream_t stream) {
  const char* what = "rasterize_normals backward";
  const int64_t vertices = p.batch * p.num_vertices, triangles = p.batch * p.num_triangles;
  if (vertices == 0) return;
  project(what, p, stream);
  if (triangles > 0)
    launch(what, triangle_backward_kernel, blocks_for(32 * triangles, kThreads), kThreads, 0, stream, p);
  launch(what, vertex_backward_kernel, blocks_for(vertices, kThreads), kThreads, 0, stream, p);
}

}  // namespace cuda
}  // namespace garfast

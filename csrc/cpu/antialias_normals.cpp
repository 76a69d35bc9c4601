// Anti-aliasing on the CPU. Slots of one sample belong to one thread, so there are no atomics; the pixels then gather
// in parallel. Few vertices lie on the outline and few pixels along it: both are marked, and the rest is skipped or
// copied.
#include "garfast/antialias_normals.h"

#include <algorithm>

#include "rows.h"

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

inline uint64_t scrambled(uint64_t i) {
  i = (i ^ i >> 30) * 0xbf58476d1ce4e5b9u;
  i = (i ^ i >> 27) * 0x94d049bb133111ebu;
  return i ^ i >> 31;
}

// Marks the vertices around which triangles face both ways, or whose triangles do not close around them. At the others
// every edge is shared by triangles of one side. Around a closed vertex each neighbour comes once after it in a
// triangle and once before it, so that the sums of their scrambled numbers cancel.
template <typename T>
void mark_turns(const AntialiasScene<T>& s, uint8_t* turns) {
  const int64_t total = s.batch * s.num_vertices;
#pragma omp for schedule(static)
  for (int64_t i = 0; i < total; ++i) {
    const int64_t v = i % s.num_vertices;
    const RasterVertex<T>* screen = s.screen + (i - v);
    uint64_t open = 0;
    int sides = 0;
    for (int32_t c = s.offsets[v]; c < s.offsets[v + 1]; ++c) {
      const int32_t triangle = s.corners[c] / 3, j = s.corners[c] % 3;
      const int32_t* t = s.triangles + 3 * int64_t(triangle);
      open += scrambled(t[j == 2 ? 0 : j + 1]) - scrambled(t[j == 0 ? 2 : j - 1]);
      sides |= 1 << (1 + triangle_side(screen, t));
    }
    turns[i] = open != 0 || (sides & (sides - 1)) != 0;
  }
}

// One mark for every pixel of the images with border, as their slots lie.
template <typename T>
int64_t mark_index(const AntialiasScene<T>& s, LevelPixel at) {
  return slot_index(s.levels, s.batch, at) / 4;
}

// Takes the outline of one sample into its slots and marks the pixels that may take colour from them.
template <typename T>
void fill_slots(const AntialiasScene<T>& s, int64_t sample, const uint8_t* turns, uint8_t* marks) {
  for (int level = 0; level < s.levels.count; ++level) {
    const int64_t begin = slot_index(s.levels, s.batch, {level, sample, -1, -1});
    const int64_t count = (s.levels.height[level] + 2) * int64_t(s.levels.width[level] + 2);
    std::fill_n(s.slots + begin, 4 * count, kEmptySlot);
    std::fill_n(marks + begin / 4, count, uint8_t(0));
  }
  for (int64_t t = 0; t < s.num_triangles; ++t)
    visit_outline(
        s, sample, int32_t(t),
        [&](const Crossing<T>& x, const OutlineEdge<T>&, int32_t edge, LevelPixel at, int direction) {
          if (!(x.depth < shown_depth(s, at))) return;
          unsigned long long& slot = s.slots[slot_index(s.levels, s.batch, at) + direction];
          slot = std::min(slot, slot_key(x.distance, edge));
          marks[mark_index(s, at)] = 1;
          const LevelPixel inside = step(at, direction);
          if (in_image(s.levels, inside)) marks[mark_index(s, inside)] = 1;
        },
        turns + sample * s.num_vertices);
}

// Runs each(first pixel of the row) over the rows of all levels and samples.
template <typename T, typename Each>
void for_each_row(const AntialiasScene<T>& s, Each each) {
  for (int level = 0; level < s.levels.count; ++level) {
    const int64_t rows = s.batch * s.levels.height[level];
#pragma omp for schedule(static) nowait
    for (int64_t i = 0; i < rows; ++i)
      each(LevelPixel{level, i / s.levels.height[level], int32_t(i % s.levels.height[level]), 0});
  }
#pragma omp barrier
}

template <typename T>
void blend_row(const AntialiasParams<T>& p, LevelPixel pixel, const uint8_t* marks) {
  const AntialiasScene<T>& s = p.scene;
  const int32_t width = s.levels.width[pixel.level];
  const int64_t plane = int64_t(s.levels.height[pixel.level]) * width;
  const int64_t i = flat_index(s.levels, s.batch, pixel, 1), i3 = flat_index(s.levels, s.batch, pixel, 3);
  for (int c = 0; c < 3; ++c) std::copy_n(s.normals + i3 + c * plane, width, p.normals + i3 + c * plane);
  std::copy_n(s.mask + i, width, p.mask + i);
  std::fill_n(p.total + i, width, T(0));
  const uint8_t* row = marks + mark_index(s, pixel);
  for (pixel.column = 0; pixel.column < width; ++pixel.column)
    if (row[pixel.column]) blend_pixel(p, pixel);
}

template <typename T>
void blend_row_backward(const AntialiasBackwardParams<T>& p, LevelPixel pixel) {
  const AntialiasScene<T>& s = p.scene;
  const int32_t width = s.levels.width[pixel.level];
  const int64_t plane = int64_t(s.levels.height[pixel.level]) * width;
  const int64_t i = flat_index(s.levels, s.batch, pixel, 1), i3 = flat_index(s.levels, s.batch, pixel, 3);
  for (int c = 0; c < 3; ++c) {
    if (p.grad_normals)
      std::copy_n(p.grad_normals + i3 + c * plane, width, p.grad_input + i3 + c * plane);
    else
      std::fill_n(p.grad_input + i3 + c * plane, width, T(0));
  }
  const unsigned long long* slots = s.slots + slot_index(s.levels, s.batch, pixel);
  for (pixel.column = 0; pixel.column < width; ++pixel.column, slots += 4)
    if (p.total[i + pixel.column] != T(0) || (slots[0] & slots[1] & slots[2] & slots[3]) != kEmptySlot)
      blend_pixel_backward(p, pixel);
}

template <typename T>
void forward(const AntialiasParams<T>& p) {
  const AntialiasScene<T>& s = p.scene;
  Scratch<uint8_t> turns(s.batch * s.num_vertices), marks(s.batch * s.levels.bordered_start[s.levels.count]);
#pragma omp parallel num_threads(p.num_threads)
  {
    project(s);
    mark_turns(s, turns.data());
#pragma omp for schedule(dynamic, 1)
    for (int64_t b = 0; b < s.batch; ++b) fill_slots(s, b, turns.data(), marks.data());
    for_each_row(s, [&](LevelPixel first) { blend_row(p, first, marks.data()); });
  }
}

template <typename T>
void backward(const AntialiasBackwardParams<T>& p) {
  const AntialiasScene<T>& s = p.scene;
  const int64_t vertices = s.batch * s.num_vertices, triangles = s.batch * s.num_triangles;
  Scratch<uint8_t> turns(s.batch * s.num_vertices);
#pragma omp parallel num_threads(p.num_threads)
  {
    project(s);
    mark_turns(s, turns.data());
    for_each_row(s, [&](LevelPixel first) { blend_row_backward(p, first); });
#pragma omp for schedule(dynamic, 256)
    for (int64_t i = 0; i < triangles; ++i) {
      RasterCornerGrad<T> sum[3] = {};
      outline_backward(p, i / s.num_triangles, int32_t(i % s.num_triangles), sum,
                       turns.data() + i / s.num_triangles * s.num_vertices);
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

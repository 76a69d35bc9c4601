// Anti-aliasing of rasterised normals and mask along the outline; garfast/ops/antialias_reference.py has the equations.
//
// Outline edges are found per triangle from the mesh's corners. Where one crosses the line between two pixel centres it
// competes for a slot of its outside pixel, one for each direction, where the nearest wins: the smallest 64-bit
// (distance, edge), so the result does not depend on the order. Then every pixel gathers what its slots and those of
// its neighbours give and take. The images have a border of one pixel of background, in which slots exist too.
#pragma once

#include "garfast/rasterize_normals.h"

namespace garfast {

template <typename T>
struct AntialiasScene {
  const T* vertices;          // [B, V, 3] camera space
  const int32_t* triangles;   // [F, 3]
  const T* camera;            // [B, 4]
  const T* vertex_normals;    // [B, V, 3]
  const int32_t* offsets;     // [V + 1]
  const int32_t* corners;     // [3F]
  const T* normals;           // flat, 3 channels, of the rasteriser
  const T* mask;              // flat
  const int32_t* ids;         // flat
  const T* depth;             // flat
  RasterVertex<T>* screen;    // [B, V] scratch
  unsigned long long* slots;  // flat with border, 4 for each pixel: right, left, below, above; all bits set: empty
  RasterLevels levels;
  int64_t batch, num_vertices, num_triangles;
  bool pinhole, cull;
  T near;
};

template <typename T>
struct AntialiasParams {
  AntialiasScene<T> scene;
  T* normals;  // flat, 3 channels, out
  T* mask;     // flat, out
  T* total;    // flat, out: the sum of weights blended into a pixel
  int num_threads;
};

template <typename T>
struct AntialiasBackwardParams {
  AntialiasScene<T> scene;
  const T* normals;                   // flat, 3 channels, of the forward
  const T* mask;                      // flat, of the forward
  const T* total;                     // flat, of the forward
  const T* grad_normals;              // flat, 3 channels, or null
  const T* grad_mask;                 // flat, or null
  RasterCornerGrad<T>* grad_corners;  // [B, 3F] scratch
  T* grad_input;                      // flat, 3 channels, out: of the rasteriser's normals
  T* grad_vertices;                   // [B, V, 3] out
  T* grad_vertex_normals;             // [B, V, 3] out
  T* grad_camera_parts;               // [B, V, 4] out
  int num_threads;
};

GARFAST_DECLARE_CPU(antialias_normals_forward, AntialiasParams<float>)
GARFAST_DECLARE_CPU(antialias_normals_forward, AntialiasParams<double>)
GARFAST_DECLARE_CPU(antialias_normals_backward, AntialiasBackwardParams<float>)
GARFAST_DECLARE_CPU(antialias_normals_backward, AntialiasBackwardParams<double>)

constexpr unsigned long long kEmptySlot = ~0ull;

}  // namespace garfast

GARFAST_MATH_BEGIN

template <typename T>
GARFAST_HD unsigned long long slot_key(T distance, int32_t edge) {
  union {
    float value;
    uint32_t bits;
  } number{float(distance) + 0.0f};
  return (unsigned long long)(number.bits) << 32 | uint32_t(edge);
}
GARFAST_HD int32_t slot_edge(unsigned long long key) { return int32_t(uint32_t(key)); }
template <typename T>
GARFAST_HD T slot_distance(unsigned long long key) {
  union {
    uint32_t bits;
    float value;
  } number{uint32_t(key >> 32)};
  return T(number.value);
}

// A pixel of one sample at one level; row and column may lie in the border: -1 or the size.
struct LevelPixel {
  int level;
  int64_t sample;
  int32_t row, column;
};

// The pixel towards which a slot of `direction` looks, or away from which with sign -1.
GARFAST_HD LevelPixel step(LevelPixel p, int direction, int sign = 1) {
  p.column += sign * (direction == 0 ? 1 : direction == 1 ? -1 : 0);
  p.row += sign * (direction == 2 ? 1 : direction == 3 ? -1 : 0);
  return p;
}

GARFAST_HD bool in_image(const RasterLevels& levels, LevelPixel p) {
  return p.row >= 0 && p.row < levels.height[p.level] && p.column >= 0 && p.column < levels.width[p.level];
}

// Index into a flat buffer of one channel, and of the first of three channels.
GARFAST_HD int64_t flat_index(const RasterLevels& levels, int64_t batch, LevelPixel p, int channels) {
  const int64_t plane = int64_t(levels.height[p.level]) * levels.width[p.level];
  return channels * (batch * levels.start[p.level] + p.sample * plane) + int64_t(p.row) * levels.width[p.level] +
         p.column;
}

GARFAST_HD int64_t slot_index(const RasterLevels& levels, int64_t batch, LevelPixel p) {
  const int64_t height = levels.height[p.level] + 2, width = levels.width[p.level] + 2;
  return 4 * (batch * levels.bordered_start[p.level] + (p.sample * height + p.row + 1) * width + p.column + 1);
}

// The depth a pixel shows; background is infinitely far.
template <typename T>
GARFAST_HD T shown_depth(const AntialiasScene<T>& s, LevelPixel p) {
  if (!in_image(s.levels, p)) return std::numeric_limits<T>::infinity();
  const int64_t i = flat_index(s.levels, s.batch, p, 1);
  return s.ids[i] < 0 ? std::numeric_limits<T>::infinity() : s.depth[i];
}

// 1 front, -1 back, 0 without area or with a vertex that cannot be drawn.
template <typename T>
GARFAST_HD int triangle_side(const RasterVertex<T>* screen, const int32_t* t) {
  const RasterVertex<T>&a = screen[t[0]], &b = screen[t[1]], &c = screen[t[2]];
  const T area = screen_area(a.x, a.y, b.x, b.y, c.x, c.y);
  return area > T(0) ? 1 : area < T(0) ? -1 : 0;
}

// Whether the edge from corner k to k + 1 of a triangle that faces `side` is part of the outline.
template <typename T>
GARFAST_HD bool is_outline(const AntialiasScene<T>& s, const RasterVertex<T>* screen, int32_t triangle, int k,
                           int side) {
  const int32_t* t = s.triangles + 3 * int64_t(triangle);
  const int32_t a = t[k], b = t[k == 2 ? 0 : k + 1];
  int32_t neighbour = -1;
  for (int32_t i = s.offsets[a]; i < s.offsets[a + 1]; ++i) {
    const int32_t other = s.corners[i] / 3, j = s.corners[i] % 3;
    const int32_t* n = s.triangles + 3 * int64_t(other);
    const int times = (n[j == 2 ? 0 : j + 1] == b) + (n[j == 0 ? 2 : j - 1] == b);
    if (other == triangle || times == 0) continue;
    if (neighbour >= 0 || times == 2) return false;  // an edge of three triangles, or of a collapsed one
    neighbour = other;
  }
  const int other_side = neighbour < 0 ? 0 : triangle_side(screen, s.triangles + 3 * int64_t(neighbour));
  return other_side != side && (side > 0 || other_side == 0);
}

// An edge at one level: p along a line of pixel centres, c across it.
template <typename T>
struct OutlineEdge {
  T p[2], c[2];
  const RasterVertex<T>* end[2];
  bool front, vertical;
};

template <typename T>
GARFAST_HD OutlineEdge<T> outline_edge(const AntialiasScene<T>& s, LevelPixel where, int32_t edge, bool vertical) {
  OutlineEdge<T> e;
  const RasterVertex<T>* screen = s.screen + where.sample * s.num_vertices;
  const int32_t* t = s.triangles + 3 * int64_t(edge / 3);
  const int k = edge % 3;
  const T half_width = T(s.levels.width[where.level]) * T(0.5), half_height = T(s.levels.height[where.level]) * T(0.5);
  e.front = triangle_side(screen, t) > 0;
  e.vertical = vertical;
  for (int i = 0; i < 2; ++i) {
    e.end[i] = screen + t[i == 0 ? k : k == 2 ? 0 : k + 1];
    const T u = pixel_u(e.end[i]->x, half_width), v = pixel_v(e.end[i]->y, half_height);
    e.p[i] = vertical ? v : u;
    e.c[i] = vertical ? u : v;
  }
  return e;
}

template <typename T>
struct Crossing {
  T t, on_edge, inverse_w, depth, distance, share;
  T normal[3], inverse_length;  // of the surface there
  T steep, h, reach, length;    // steep: h away from the ends
  int32_t pixel;                // the outside pixel along the line
  bool forward;                 // the inside lies towards larger p
};

// False where the edge does not cross the line.
template <typename T>
GARFAST_HD bool cross_line(const OutlineEdge<T>& e, int32_t line, Crossing<T>& x) {
  const T c = T(line) + T(0.5), dc = e.c[1] - e.c[0], dp = e.p[1] - e.p[0];
  if ((e.c[0] <= c) == (e.c[1] <= c)) return false;
  const RasterVertex<T>&a = *e.end[0], &b = *e.end[1];
  x.t = (c - e.c[0]) / dc;
  x.inverse_w = a.inverse_w + x.t * (b.inverse_w - a.inverse_w);
  x.on_edge = x.t * b.inverse_w / x.inverse_w;
  x.depth = a.depth + x.on_edge * (b.depth - a.depth);
  T squared = T(0);
  for (int i = 0; i < 3; ++i) {
    x.normal[i] = a.normal[i] + x.on_edge * (b.normal[i] - a.normal[i]);
    squared += x.normal[i] * x.normal[i];
  }
  x.inverse_length = squared > T(0) ? T(1) / std::sqrt(squared) : T(0);
  for (int i = 0; i < 3; ++i) x.normal[i] *= x.inverse_length;
  const T along = x.normal[e.vertical ? 1 : 0], other = x.normal[e.vertical ? 0 : 1];
  x.steep = dc * dc / (dc * dc + dp * dp);
  x.length = std::sqrt(dc * dc + dp * dp);
  x.reach = x.length * (x.t < T(0.5) ? x.t : T(1) - x.t);
  if (!(x.reach < T(1))) x.reach = T(1);
  x.h = T(0.5) + (x.steep - T(0.5)) * x.reach;
  x.share = along * along + (T(1) - along * along - other * other) * x.h;
  x.forward = ((dc > T(0)) != e.vertical) == e.front;
  const T position = e.p[0] + x.t * dp - T(0.5), before = std::floor(position);
  x.pixel = int32_t(before) + (x.forward ? 0 : 1);
  x.distance = x.forward ? position - before : T(1) - (position - before);
  return true;
}

// Calls visit(crossing, edge, outside pixel, direction) for every crossing of an edge at a level whose outside pixel
// lies in the image or its border.
template <typename T, typename Visit>
GARFAST_HD void visit_crossings(const AntialiasScene<T>& s, int64_t sample, int level, int32_t edge, Visit visit) {
  for (int vertical = 0; vertical < 2; ++vertical) {
    LevelPixel at{level, sample, 0, 0};
    const OutlineEdge<T> e = outline_edge(s, at, edge, vertical != 0);
    const int32_t lines = vertical ? s.levels.width[level] : s.levels.height[level];
    const int32_t size = vertical ? s.levels.height[level] : s.levels.width[level];
    const int32_t last = last_pixel(e.c[0] > e.c[1] ? e.c[0] : e.c[1], lines);
    for (int32_t line = first_pixel(e.c[0] < e.c[1] ? e.c[0] : e.c[1]); line <= last; ++line) {
      Crossing<T> x;
      if (!cross_line(e, line, x) || x.pixel < -1 || x.pixel > size) continue;
      at.row = vertical ? x.pixel : line;
      at.column = vertical ? line : x.pixel;
      visit(x, e, at, (x.forward ? 0 : 1) + 2 * vertical);
    }
  }
}

// The crossing that won a slot.
template <typename T>
GARFAST_HD Crossing<T> slot_crossing(const AntialiasScene<T>& s, LevelPixel outside, int direction,
                                     unsigned long long key) {
  const bool vertical = direction >= 2;
  Crossing<T> x{};
  cross_line(outline_edge(s, outside, slot_edge(key), vertical), vertical ? outside.column : outside.row, x);
  return x;
}

// What a crossing that won its slot does: nothing, or blend a colour into a pixel with the weight
// (distance - 1/2) * sign * share.
enum class Blend { kNothing, kEdgeIntoOutside, kOutsideIntoInside, kEdgeOutOfInside };

template <typename T>
GARFAST_HD Blend blend_of(const AntialiasScene<T>& s, LevelPixel outside, int direction, T distance) {
  if (distance < T(0.5)) return in_image(s.levels, outside) ? Blend::kEdgeIntoOutside : Blend::kNothing;
  const LevelPixel inside = step(outside, direction);
  if (!in_image(s.levels, inside)) return Blend::kNothing;
  if (shown_depth(s, inside) < shown_depth(s, outside)) return Blend::kOutsideIntoInside;
  const unsigned long long back = s.slots[slot_index(s.levels, s.batch, inside) + (direction ^ 1)];
  return back != kEmptySlot && slot_distance<T>(back) + distance <= T(1) ? Blend::kEdgeOutOfInside : Blend::kNothing;
}

// Normals and mask of the rasteriser at a pixel; background in the border.
template <typename T>
GARFAST_HD void load_colour(const RasterLevels& levels, int64_t batch, const T* normals, const T* mask, LevelPixel p,
                            T* colour) {
  if (!in_image(levels, p)) {
    for (int c = 0; c < 4; ++c) colour[c] = T(0);
    return;
  }
  const int64_t plane = int64_t(levels.height[p.level]) * levels.width[p.level], i3 = flat_index(levels, batch, p, 3);
  for (int c = 0; c < 3; ++c) colour[c] = normals ? normals[i3 + c * plane] : T(0);
  colour[3] = mask ? mask[flat_index(levels, batch, p, 1)] : T(0);
}

// Gathers everything that is blended into one pixel.
template <typename T>
GARFAST_HD void blend_pixel(const AntialiasParams<T>& p, LevelPixel pixel) {
  const AntialiasScene<T>& s = p.scene;
  T own[4], taken[4] = {T(0), T(0), T(0), T(0)}, total = T(0);
  load_colour(s.levels, s.batch, s.normals, s.mask, pixel, own);
  for (int side = 0; side < 8; ++side) {
    const int direction = side % 4;
    // Its own slots, then those of which it is the inside.
    const LevelPixel outside = side < 4 ? pixel : step(pixel, direction, -1);
    const unsigned long long key = s.slots[slot_index(s.levels, s.batch, outside) + direction];
    if (key == kEmptySlot) continue;
    const Crossing<T> x = slot_crossing(s, outside, direction, key);
    const Blend blend = blend_of(s, outside, direction, x.distance);
    if (blend == Blend::kNothing || (blend == Blend::kEdgeIntoOutside) != (side < 4)) continue;
    T colour[4] = {x.normal[0], x.normal[1], x.normal[2], T(1)};
    T weight = x.share * (T(0.5) - x.distance);
    if (blend == Blend::kOutsideIntoInside) {
      load_colour(s.levels, s.batch, s.normals, s.mask, outside, colour);
      weight = -weight;
    }
    total += weight;
    for (int c = 0; c < 4; ++c) taken[c] += weight * colour[c];
  }
  const T limit = total > T(1) ? total : T(1);
  const int64_t plane = int64_t(s.levels.height[pixel.level]) * s.levels.width[pixel.level];
  const int64_t i = flat_index(s.levels, s.batch, pixel, 1), i3 = flat_index(s.levels, s.batch, pixel, 3);
  for (int c = 0; c < 3; ++c) p.normals[i3 + c * plane] = own[c] * (T(1) - total / limit) + taken[c] / limit;
  p.mask[i] = own[3] * (T(1) - total / limit) + taken[3] / limit;
  p.total[i] = total;
}

// The gradient of the rasteriser's normals at one pixel: its own share, and what its inside neighbours took from it.
template <typename T>
GARFAST_HD void blend_pixel_backward(const AntialiasBackwardParams<T>& p, LevelPixel pixel) {
  const AntialiasScene<T>& s = p.scene;
  const RasterLevels& levels = s.levels;
  T grad[4], sum[3];
  const T total = p.total[flat_index(levels, s.batch, pixel, 1)];
  load_colour(levels, s.batch, p.grad_normals, p.grad_mask, pixel, grad);
  for (int c = 0; c < 3; ++c) sum[c] = total < T(1) ? grad[c] * (T(1) - total) : T(0);
  for (int direction = 0; direction < 4; ++direction) {
    const unsigned long long key = s.slots[slot_index(levels, s.batch, pixel) + direction];
    if (key == kEmptySlot) continue;
    const Crossing<T> x = slot_crossing(s, pixel, direction, key);
    if (blend_of(s, pixel, direction, x.distance) != Blend::kOutsideIntoInside) continue;
    const LevelPixel inside = step(pixel, direction);
    const T other = p.total[flat_index(levels, s.batch, inside, 1)];
    const T weight = x.share * (x.distance - T(0.5)) / (other > T(1) ? other : T(1));
    load_colour(levels, s.batch, p.grad_normals, p.grad_mask, inside, grad);
    for (int c = 0; c < 3; ++c) sum[c] += weight * grad[c];
  }
  const int64_t plane = int64_t(levels.height[pixel.level]) * levels.width[pixel.level];
  for (int c = 0; c < 3; ++c) p.grad_input[flat_index(levels, s.batch, pixel, 3) + c * plane] = sum[c];
}

// Adds what flows back from one crossing to the ends of its edge.
template <typename T>
GARFAST_HD void crossing_backward(const AntialiasBackwardParams<T>& p, const Crossing<T>& x, const OutlineEdge<T>& e,
                                  LevelPixel outside, int direction, RasterCornerGrad<T>* first,
                                  RasterCornerGrad<T>* second) {
  const AntialiasScene<T>& s = p.scene;
  const Blend blend = blend_of(s, outside, direction, x.distance);
  if (blend == Blend::kNothing) return;
  const LevelPixel target = blend == Blend::kEdgeIntoOutside ? outside : step(outside, direction);
  const bool background = blend == Blend::kOutsideIntoInside;
  T grad[4], colour[4] = {x.normal[0], x.normal[1], x.normal[2], T(1)}, base[4];
  load_colour(s.levels, s.batch, p.grad_normals, p.grad_mask, target, grad);
  if (background) load_colour(s.levels, s.batch, s.normals, s.mask, outside, colour);
  // Below 1 a weight replaces the pixel's own colour; above, it competes with the other weights.
  const T total = p.total[flat_index(s.levels, s.batch, target, 1)];
  const bool full = total > T(1);
  load_colour(s.levels, s.batch, full ? p.normals : s.normals, full ? p.mask : s.mask, target, base);
  const T scale = full ? T(1) / total : T(1);
  T grad_weight = T(0);
  for (int c = 0; c < 4; ++c) grad_weight += scale * grad[c] * (colour[c] - base[c]);

  const T sign = background ? T(-1) : T(1), half = sign * (T(0.5) - x.distance);
  const T grad_share = grad_weight * half, grad_distance = -sign * grad_weight * x.share;
  const int i = e.vertical ? 1 : 0, j = 1 - i;
  T grad_normal[3] = {T(0), T(0), T(0)};
  if (!background)
    for (int c = 0; c < 3; ++c) grad_normal[c] = x.share * half * scale * grad[c];
  grad_normal[i] += grad_share * T(2) * x.normal[i] * (T(1) - x.h);
  grad_normal[j] -= grad_share * T(2) * x.normal[j] * x.h;
  const T grad_h = grad_share * (T(1) - x.normal[i] * x.normal[i] - x.normal[j] * x.normal[j]);

  const T dc = e.c[1] - e.c[0], dp = e.p[1] - e.p[0], squared = x.length * x.length;
  const T grad_steep = grad_h * x.reach;
  T grad_dc = grad_steep * T(2) * dc * dp * dp / (squared * squared);
  T grad_dp = -grad_steep * T(2) * dp * dc * dc / (squared * squared);
  T grad_t = T(0);
  if (x.reach < T(1)) {
    const T grad_reach = grad_h * (x.steep - T(0.5)), to_end = x.t < T(0.5) ? x.t : T(1) - x.t;
    grad_dc += grad_reach * to_end * dc / x.length;
    grad_dp += grad_reach * to_end * dp / x.length;
    grad_t += grad_reach * (x.t < T(0.5) ? x.length : -x.length);
  }
  const T grad_position = x.forward ? grad_distance : -grad_distance;
  grad_t += grad_position * dp;
  grad_dp += grad_position * x.t;

  const RasterVertex<T>&a = *e.end[0], &b = *e.end[1];
  T grad_on_edge = T(0), along = T(0);
  for (int c = 0; c < 3; ++c) along += x.normal[c] * grad_normal[c];
  for (int c = 0; c < 3; ++c) {
    const T g = (grad_normal[c] - x.normal[c] * along) * x.inverse_length;
    first->normal[c] += g * (T(1) - x.on_edge);
    second->normal[c] += g * x.on_edge;
    grad_on_edge += g * (b.normal[c] - a.normal[c]);
  }
  const T per_w = grad_on_edge / (x.inverse_w * x.inverse_w);
  grad_t += per_w * a.inverse_w * b.inverse_w;
  if (s.pinhole) {
    const T both = per_w * x.t * (T(1) - x.t);
    first->depth += both * b.inverse_w * a.inverse_w * a.inverse_w;
    second->depth -= both * a.inverse_w * b.inverse_w * b.inverse_w;
  }
  grad_dc -= grad_t * x.t / dc;
  const T grad_p[2] = {grad_position - grad_dp, grad_dp}, grad_c[2] = {-grad_t / dc - grad_dc, grad_dc};
  const T half_width = T(s.levels.width[outside.level]) * T(0.5),
          half_height = T(s.levels.height[outside.level]) * T(0.5);
  first->x += half_width * (e.vertical ? grad_c[0] : grad_p[0]);
  first->y -= half_height * (e.vertical ? grad_p[0] : grad_c[0]);
  second->x += half_width * (e.vertical ? grad_c[1] : grad_p[1]);
  second->y -= half_height * (e.vertical ? grad_p[1] : grad_c[1]);
}

// Calls visit(crossing, edge on the image, edge, outside pixel, direction) for every crossing of a triangle's outline.
// `turns`, if not null, says of which vertices there may be an outline edge.
template <typename T, typename Visit>
GARFAST_HD void visit_outline(const AntialiasScene<T>& s, int64_t sample, int32_t triangle, Visit visit,
                              const uint8_t* turns = nullptr) {
  const RasterVertex<T>* screen = s.screen + sample * s.num_vertices;
  const int side = triangle_side(screen, s.triangles + 3 * int64_t(triangle));
  if (side == 0 || (side < 0 && s.cull)) return;
  for (int k = 0; k < 3; ++k) {
    const int32_t* t = s.triangles + 3 * int64_t(triangle);
    if (turns && !(turns[t[k]] && turns[t[k == 2 ? 0 : k + 1]])) continue;
    if (!is_outline(s, screen, triangle, k, side)) continue;
    const int32_t edge = 3 * triangle + k;
    for (int level = 0; level < s.levels.count; ++level)
      visit_crossings(s, sample, level, edge, [&](const Crossing<T>& x, const OutlineEdge<T>& e, LevelPixel at, int d) {
        visit(x, e, edge, at, d);
      });
  }
}

template <typename T>
GARFAST_HD void outline_backward(const AntialiasBackwardParams<T>& p, int64_t sample, int32_t triangle,
                                 RasterCornerGrad<T>* sum, const uint8_t* turns = nullptr) {
  const AntialiasScene<T>& s = p.scene;
  visit_outline(
      s, sample, triangle,
      [&](const Crossing<T>& x, const OutlineEdge<T>& e, int32_t edge, LevelPixel at, int direction) {
        const unsigned long long key = s.slots[slot_index(s.levels, s.batch, at) + direction];
        const int k = edge % 3;
        if (key != kEmptySlot && slot_edge(key) == edge)
          crossing_backward(p, x, e, at, direction, sum + k, sum + (k == 2 ? 0 : k + 1));
      },
      turns);
}

GARFAST_MATH_END

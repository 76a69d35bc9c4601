// Camera-space normal maps of a batch of meshes with one topology, at many resolutions in one call.
//
// Every vertex is projected once to normalised device coordinates (x right, y up, the image is [-1, 1]^2). At a level
// of H x W pixels it lies at u = (x + 1) W / 2, v = (1 - y) H / 2 in pixels; pixel (i, j) is sampled at its centre
// p = (j + 0.5, i + 0.5). With r_k = (u_k, v_k) - p
//
//     e_k = r_{k+1} x r_{k+2}        the edge function opposite to vertex k, positive inside a front face
//     q_k = e_k / w_k                w: distance along the camera's axis under perspective, 1 under orthography
//     b_k = q_k / (q_0 + q_1 + q_2)  barycentrics, perspective-correct
//     depth = sum of b_k d_k
//
// Swapping an edge's ends negates e exactly (the products commute, nothing is fused), so of two triangles that share
// an edge exactly one covers a pixel beside it; where e is exactly 0 the top-left rule decides.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "garfast/isa.h"

namespace garfast {

constexpr int kMaxRasterLevels = 16;

// The images of one call. A plane of level l, sample b, channel c of C starts at pixel
// batch * C * start[l] + (b * C + c) * height[l] * width[l] of a flat buffer.
struct RasterLevels {
  int count;
  int32_t height[kMaxRasterLevels], width[kMaxRasterLevels];
  int64_t start[kMaxRasterLevels + 1];
  int64_t bordered_start[kMaxRasterLevels + 1];  // with a border of one pixel around every image
};

// A projected vertex. x is NaN where it cannot be drawn (not finite, too far outside, not in front of the near plane):
// then so is every edge function of its triangles, and no pixel is covered by them.
template <typename T>
struct RasterVertex {
  T x, y;       // normalised device coordinates
  T depth;      // -z
  T inverse_w;  // 1 / depth for the pinhole camera, 1 for the orthographic one
  T normal[3], unused;
};

// What flows back to one corner of a triangle.
template <typename V>
struct RasterCornerGrad {
  V x, y, depth, normal[3];
};

template <typename T>
struct RasterizeParams {
  const T* vertices;         // [B, V, 3] camera space
  const int32_t* triangles;  // [F, 3]
  const T* camera;           // [B, 4]
  const T* vertex_normals;   // [B, V, 3]
  T* normals;                // flat, 3 channels, out
  T* mask;                   // flat, 1 channel, out
  int32_t* ids;              // flat, 1 channel, out
  T* barycentrics;           // flat, 3 channels, out
  T* depth;                  // flat, 1 channel, out
  RasterVertex<T>* screen;   // [B, V] scratch
  unsigned long long* keys;  // flat, 1 channel, scratch of the CUDA kernel
  RasterLevels levels;
  int64_t batch, num_vertices, num_triangles;
  bool pinhole, cull;
  T near;
  int num_threads;
};

template <typename T>
struct RasterizeBackwardParams {
  const T* vertices;                  // [B, V, 3]
  const int32_t* triangles;           // [F, 3]
  const T* camera;                    // [B, 4]
  const T* vertex_normals;            // [B, V, 3]
  const int32_t* offsets;             // [V + 1]
  const int32_t* corners;             // [3F]
  const int32_t* ids;                 // flat, of the forward
  const T* grad_normals;              // flat, 3 channels, or null
  const T* grad_barycentrics;         // flat, 3 channels, or null
  const T* grad_depth;                // flat, 1 channel, or null
  RasterVertex<T>* screen;            // [B, V] scratch
  RasterCornerGrad<T>* grad_corners;  // [B, 3F] scratch
  T* grad_vertices;                   // [B, V, 3] out
  T* grad_vertex_normals;             // [B, V, 3] out
  T* grad_camera_parts;               // [B, V, 4] out: each vertex's share of the camera's gradient
  RasterLevels levels;
  int64_t batch, num_vertices, num_triangles;
  bool pinhole, cull;
  T near;
  int num_threads;
};

GARFAST_DECLARE_CPU(rasterize_normals_forward, RasterizeParams<float>)
GARFAST_DECLARE_CPU(rasterize_normals_forward, RasterizeParams<double>)
GARFAST_DECLARE_CPU(rasterize_normals_backward, RasterizeBackwardParams<float>)
GARFAST_DECLARE_CPU(rasterize_normals_backward, RasterizeBackwardParams<double>)

}  // namespace garfast

GARFAST_MATH_BEGIN

// a * b that the compiler may not fuse with a following addition. V: a number, or a vector of them on the CPU.
template <typename V>
GARFAST_HD V product(V a, V b) {
  return a * b;
}
#ifdef __CUDA_ARCH__
template <>
GARFAST_HD float product(float a, float b) {
  return __fmul_rn(a, b);
}
#endif

template <typename T>
GARFAST_HD T absolute(T a) {
  return a < T(0) ? -a : a;
}

// Beyond this many half-images outside, or this deep, a vertex cannot be drawn: pixels still fit an int.
template <typename T>
GARFAST_HD T screen_limit() {
  return T(1e5);
}
template <typename T>
GARFAST_HD T depth_limit() {
  return T(1e15);
}

template <typename T>
GARFAST_HD RasterVertex<T> raster_vertex(const T* vertex, const T* normal, const T* camera, bool pinhole, T near) {
  RasterVertex<T> r;
  r.depth = -vertex[2];
  r.x = product(camera[0], vertex[0]);
  r.y = product(camera[1], vertex[1]);
  r.inverse_w = T(1);
  if (pinhole) {
    r.x = r.x / r.depth;
    r.y = r.y / r.depth;
    r.inverse_w = T(1) / r.depth;
  }
  r.x = r.x + camera[2];
  r.y = r.y + camera[3];
  const bool drawable = absolute(r.x) <= screen_limit<T>() && absolute(r.y) <= screen_limit<T>() &&
                        absolute(r.depth) <= depth_limit<T>() && (!pinhole || r.depth > near);
  if (!drawable) r.x = r.y = std::numeric_limits<T>::quiet_NaN();
  for (int c = 0; c < 3; ++c) r.normal[c] = normal[c];
  r.unused = T(0);
  return r;
}

// Twice the signed area on the image: positive for front faces, NaN if a vertex cannot be drawn.
template <typename V>
GARFAST_HD V screen_area(V x0, V y0, V x1, V y1, V x2, V y2) {
  return product(x1 - x0, y2 - y0) - product(x2 - x0, y1 - y0);
}

template <typename V, typename T>
GARFAST_HD V pixel_u(V x, T half_width) {
  return x * half_width + half_width;
}
template <typename V, typename T>
GARFAST_HD V pixel_v(V y, T half_height) {
  return half_height - y * half_height;
}
#ifdef __CUDA_ARCH__
template <>
GARFAST_HD float pixel_u(float x, float half_width) {
  return __fmul_rn(x, half_width) + half_width;
}
template <>
GARFAST_HD float pixel_v(float y, float half_height) {
  return half_height - __fmul_rn(y, half_height);
}
#endif

// The pixels whose centres a triangle's bounding box holds, ends included; empty where a first exceeds its last.
struct PixelBox {
  int32_t left, top, right, bottom;
};

// low, high: the extent in pixels; size: of the image. NaN gives some box inside the image.
template <typename T>
GARFAST_HD int32_t first_pixel(T low) {
  const T centre = low - T(0.5);
  return int32_t(std::ceil(centre > T(0) ? centre : T(0)));
}
template <typename T>
GARFAST_HD int32_t last_pixel(T high, int32_t size) {
  const T centre = high - T(0.5), last = T(size - 1);
  const T bounded = centre < last ? centre : last;
  return int32_t(std::floor(bounded > T(-1) ? bounded : T(-1)));
}

template <typename T>
GARFAST_HD T min3(T a, T b, T c) {
  const T ab = a < b ? a : b;
  return ab < c ? ab : c;
}
template <typename T>
GARFAST_HD T max3(T a, T b, T c) {
  const T ab = a > b ? a : b;
  return ab > c ? ab : c;
}

// A triangle at one level.
template <typename V>
struct PixelTriangle {
  V u[3], v[3];
  V depth[3], inverse_w[3];
};

template <typename T>
GARFAST_HD PixelTriangle<T> pixel_triangle(const RasterVertex<T>* screen, const int32_t* t, T half_width,
                                           T half_height) {
  PixelTriangle<T> r;
  for (int k = 0; k < 3; ++k) {
    const RasterVertex<T>& s = screen[t[k]];
    r.u[k] = pixel_u(s.x, half_width);
    r.v[k] = pixel_v(s.y, half_height);
    r.depth[k] = s.depth;
    r.inverse_w[k] = s.inverse_w;
  }
  return r;
}

template <typename T>
GARFAST_HD PixelBox pixel_box(const PixelTriangle<T>& t, int32_t width, int32_t height) {
  return {first_pixel(min3(t.u[0], t.u[1], t.u[2])), first_pixel(min3(t.v[0], t.v[1], t.v[2])),
          last_pixel(max3(t.u[0], t.u[1], t.u[2]), width), last_pixel(max3(t.v[0], t.v[1], t.v[2]), height)};
}

// Whether a pixel centre exactly on the edge from vertex k + 1 to k + 2 of a front face belongs to it: top and left do.
template <typename T>
GARFAST_HD bool owns_edge(T u1, T v1, T u2, T v2) {
  return v2 > v1 || (v2 == v1 && u2 < u1);
}

template <typename T>
GARFAST_HD void owned_edges(const PixelTriangle<T>& t, bool* owned) {
  for (int k = 0; k < 3; ++k) {
    const int a = k == 2 ? 0 : k + 1, b = k == 0 ? 2 : k - 1;
    owned[k] = owns_edge(t.u[a], t.v[a], t.u[b], t.v[b]);
  }
}

// A number that is smaller for the nearer point and, of equally near ones, for the lower triangle. No pixel is seen:
// all bits are set, which reads as triangle -1.
GARFAST_HD unsigned long long raster_key(float depth, int32_t triangle) {
  union {
    float value;
    uint32_t bits;
  } number{depth + 0.0f};  // -0 becomes 0
  const uint32_t ordered = number.bits ^ (number.bits >> 31 ? 0xffffffffu : 0x80000000u);
  return (unsigned long long)(ordered) << 32 | uint32_t(triangle);
}
GARFAST_HD int32_t raster_key_triangle(unsigned long long key) { return int32_t(uint32_t(key)); }

// e_k, q_k and 1 / (q_0 + q_1 + q_2) at a point.
template <typename V>
struct RasterSample {
  V ru[3], rv[3], e[3], q[3], inverse;
};

template <typename V>
GARFAST_HD void edge_functions(const PixelTriangle<V>& t, V px, V py, RasterSample<V>& s) {
  for (int k = 0; k < 3; ++k) {
    s.ru[k] = t.u[k] - px;
    s.rv[k] = t.v[k] - py;
  }
  s.e[0] = product(s.rv[1], s.ru[2]) - product(s.ru[1], s.rv[2]);
  s.e[1] = product(s.rv[2], s.ru[0]) - product(s.ru[2], s.rv[0]);
  s.e[2] = product(s.rv[0], s.ru[1]) - product(s.ru[0], s.rv[1]);
}

template <typename V>
GARFAST_HD void perspective_weights(const PixelTriangle<V>& t, V one, RasterSample<V>& s) {
  for (int k = 0; k < 3; ++k) s.q[k] = product(s.e[k], t.inverse_w[k]);
  s.inverse = one / ((s.q[0] + s.q[1]) + s.q[2]);
}

template <typename V>
GARFAST_HD V sample_depth(const PixelTriangle<V>& t, const RasterSample<V>& s) {
  return product((product(s.q[0], t.depth[0]) + product(s.q[1], t.depth[1])) + product(s.q[2], t.depth[2]), s.inverse);
}

// The gradient of one pixel's outputs, added to its triangle's corners. V: a number or a vector of them.
//
//     n = m / |m|, m = sum b_k n_k   ->   dL/dm = (g_n - n (n . g_n)) / |m|
//     dL/db_k = dL/dm . n_k + g_b_k + g_d d_k,   dL/dq_k = (dL/db_k - sum_j b_j dL/db_j) / sum q
//
// inverse_length: 1 / |m|, 0 where |m| = 0.
template <typename V, typename T>
GARFAST_HD void pixel_backward(const PixelTriangle<V>& t, const RasterSample<V>& s, const V (*vertex_normals)[3],
                               const V* m, V inverse_length, const V* grad_normal, const V* grad_barycentrics,
                               V grad_depth, T half_width, T half_height, bool pinhole, RasterCornerGrad<V>* out) {
  V n[3], gm[3], b[3], gb[3];
  for (int c = 0; c < 3; ++c) n[c] = inverse_length > V(0) ? m[c] * inverse_length : V(0);
  const V along = n[0] * grad_normal[0] + n[1] * grad_normal[1] + n[2] * grad_normal[2];
  for (int c = 0; c < 3; ++c) gm[c] = (grad_normal[c] - n[c] * along) * inverse_length;
  for (int k = 0; k < 3; ++k) {
    b[k] = s.q[k] * s.inverse;
    gb[k] = grad_barycentrics[k] + grad_depth * t.depth[k];
    if (inverse_length > V(0))
      gb[k] += gm[0] * vertex_normals[k][0] + gm[1] * vertex_normals[k][1] + gm[2] * vertex_normals[k][2];
  }
  const V mean = b[0] * gb[0] + b[1] * gb[1] + b[2] * gb[2];
  V ge[3];
  for (int k = 0; k < 3; ++k) {
    const V gq = (gb[k] - mean) * s.inverse;
    ge[k] = gq * t.inverse_w[k];
    for (int c = 0; c < 3; ++c) out[k].normal[c] += b[k] * gm[c];
    out[k].depth += b[k] * grad_depth;
    if (pinhole) out[k].depth -= gq * s.e[k] * t.inverse_w[k] * t.inverse_w[k];
  }
  // e_k = rv_{k+1} ru_{k+2} - ru_{k+1} rv_{k+2}; vertex k appears in e_{k+1} as the second and in e_{k+2} as the first.
  for (int k = 0; k < 3; ++k) {
    const int k1 = k == 2 ? 0 : k + 1, k2 = k == 0 ? 2 : k - 1;
    const V gu = ge[k1] * s.rv[k2] - ge[k2] * s.rv[k1];
    const V gv = ge[k2] * s.ru[k1] - ge[k1] * s.ru[k2];
    out[k].x += gu * half_width;
    out[k].y -= gv * half_height;
  }
}

// Adds to `sum` what flows back to a triangle's corners from one pixel that shows it. t: the triangle at this level;
// start: where the sample's image begins in flat one-channel arrays.
template <typename T>
GARFAST_HD void visible_pixel_backward(const RasterizeBackwardParams<T>& p, const PixelTriangle<T>& t,
                                       const T (*vertex_normals)[3], int64_t start, int32_t width, int32_t height,
                                       int32_t row, int32_t column, RasterCornerGrad<T>* sum) {
  const int64_t plane = int64_t(height) * width;
  const int64_t pixel = start + int64_t(row) * width + column, pixel3 = pixel + 2 * start;
  RasterSample<T> s;
  edge_functions(t, T(column) + T(0.5), T(row) + T(0.5), s);
  perspective_weights(t, T(1), s);
  T m[3], gn[3], gb[3], squared = T(0);
  for (int c = 0; c < 3; ++c) {
    m[c] = (s.q[0] * vertex_normals[0][c] + s.q[1] * vertex_normals[1][c] + s.q[2] * vertex_normals[2][c]) * s.inverse;
    squared += m[c] * m[c];
    gn[c] = p.grad_normals ? p.grad_normals[pixel3 + c * plane] : T(0);
    gb[c] = p.grad_barycentrics ? p.grad_barycentrics[pixel3 + c * plane] : T(0);
  }
  pixel_backward(t, s, vertex_normals, m, squared > T(0) ? T(1) / std::sqrt(squared) : T(0), gn, gb,
                 p.grad_depth ? p.grad_depth[pixel] : T(0), T(width) * T(0.5), T(height) * T(0.5), p.pinhole, sum);
}

// Adds to `sum` what flows back to a triangle's corners from its own pixels: every `step`th one of each box, from the
// `first`th on.
template <typename T>
GARFAST_HD void triangle_backward(const RasterizeBackwardParams<T>& p, int64_t b, int32_t triangle, int first, int step,
                                  RasterCornerGrad<T>* sum) {
  const RasterVertex<T>* screen = p.screen + b * p.num_vertices;
  const int32_t* corners = p.triangles + 3 * int64_t(triangle);
  const RasterVertex<T>&v0 = screen[corners[0]], &v1 = screen[corners[1]], &v2 = screen[corners[2]];
  const T area = screen_area(v0.x, v0.y, v1.x, v1.y, v2.x, v2.y);
  if (!(area > T(0) || (!p.cull && area < T(0)))) return;
  T vertex_normals[3][3];
  for (int k = 0; k < 3; ++k)
    for (int c = 0; c < 3; ++c) vertex_normals[k][c] = screen[corners[k]].normal[c];
  for (int level = 0; level < p.levels.count; ++level) {
    const int32_t width = p.levels.width[level], height = p.levels.height[level];
    const PixelTriangle<T> t = pixel_triangle(screen, corners, T(width) * T(0.5), T(height) * T(0.5));
    const PixelBox box = pixel_box(t, width, height);
    if (box.left > box.right || box.top > box.bottom) continue;
    const int64_t start = p.batch * p.levels.start[level] + b * int64_t(height) * width;
    const int64_t columns = box.right - box.left + 1, count = columns * (box.bottom - box.top + 1);
    for (int64_t i = first; i < count; i += step) {
      const int32_t row = box.top + int32_t(i / columns), column = box.left + int32_t(i % columns);
      if (p.ids[start + int64_t(row) * width + column] == triangle)
        visible_pixel_backward(p, t, vertex_normals, start, width, height, row, column, sum);
    }
  }
}

// The sum over a vertex's corners, carried through the projection to the vertex, its normal and the camera.
template <typename T>
GARFAST_HD void raster_vertex_backward(const RasterCornerGrad<T>* grad_corners, const int32_t* offsets,
                                       const int32_t* corners, int64_t v, const T* vertex, const T* camera,
                                       bool pinhole, T* grad_vertex, T* grad_normal, T* grad_camera) {
  RasterCornerGrad<T> sum{T(0), T(0), T(0), {T(0), T(0), T(0)}};
  for (int32_t i = offsets[v]; i < offsets[v + 1]; ++i) {
    const RasterCornerGrad<T>& g = grad_corners[corners[i]];
    sum.x += g.x;
    sum.y += g.y;
    sum.depth += g.depth;
    for (int c = 0; c < 3; ++c) sum.normal[c] += g.normal[c];
  }
  for (int c = 0; c < 3; ++c) grad_normal[c] = sum.normal[c];
  // A vertex that cannot be drawn has no pixels and so no gradient; its coordinates may be anything.
  const bool any = sum.x != T(0) || sum.y != T(0) || sum.depth != T(0);
  T x = any ? vertex[0] : T(0), y = any ? vertex[1] : T(0);
  T depth = sum.depth;
  if (pinhole && any) {
    const T inverse_w = T(-1) / vertex[2];
    x *= inverse_w;
    y *= inverse_w;
    depth -= (sum.x * camera[0] * x + sum.y * camera[1] * y) * inverse_w;
    grad_vertex[0] = sum.x * camera[0] * inverse_w;
    grad_vertex[1] = sum.y * camera[1] * inverse_w;
  } else {
    grad_vertex[0] = sum.x * camera[0];
    grad_vertex[1] = sum.y * camera[1];
  }
  grad_vertex[2] = -depth;
  grad_camera[0] = sum.x * x;
  grad_camera[1] = sum.y * y;
  grad_camera[2] = sum.x;
  grad_camera[3] = sum.y;
}

GARFAST_MATH_END

// Area-weighted unit vertex normals of a batch of meshes with one topology.
//
//     c_f = (b - a) x (c - a)        for every triangle f = (a, b, c): twice its area times its normal
//     S_v = sum of c_f over the triangles at vertex v
//     n_v = S_v / |S_v|              0 where |S_v| = 0
//
// Both directions gather over the corners at a vertex in a fixed order: no atomics, the same bits every time.
#pragma once

#include <cmath>
#include <cstdint>

#include "garfast/isa.h"
#include "garfast/vec3.h"

namespace garfast {

template <typename T>
struct VertexNormalsParams {
  const T* vertices;         // [B, V, 3]
  const int32_t* triangles;  // [F, 3]
  const int32_t* offsets;    // [V + 1] first corner of each vertex
  const int32_t* corners;    // [3F] corners by vertex; corner c is vertex c % 3 of triangle c / 3
  T* normals;                // [B, V, 3] out
  T* inverse_length;         // [B, V] out: 1 / |S_v|, 0 where |S_v| = 0; kept for the backward
  int64_t batch, num_vertices;
  int num_threads;
};

template <typename T>
struct VertexNormalsBackwardParams {
  const T* vertices;         // [B, V, 3]
  const int32_t* triangles;  // [F, 3]
  const int32_t* offsets;    // [V + 1]
  const int32_t* corners;    // [3F]
  const T* normals;          // [B, V, 3] of the forward
  const T* inverse_length;   // [B, V] of the forward
  const T* grad_normals;     // [B, V, 3]
  T* grad_sum;               // [B, V, 3] scratch: gradient of S_v
  T* grad_vertices;          // [B, V, 3] out
  int64_t batch, num_vertices;
  int num_threads;
};

GARFAST_DECLARE_CPU(vertex_normals_forward, VertexNormalsParams<float>)
GARFAST_DECLARE_CPU(vertex_normals_forward, VertexNormalsParams<double>)
GARFAST_DECLARE_CPU(vertex_normals_backward, VertexNormalsBackwardParams<float>)
GARFAST_DECLARE_CPU(vertex_normals_backward, VertexNormalsBackwardParams<double>)

}  // namespace garfast

GARFAST_MATH_BEGIN

// c_f of triangle t of one mesh.
template <typename T>
GARFAST_HD Vec3<T> weighted_normal(const T* vertices, const int32_t* t) {
  const Vec3<T> a = load3(vertices + 3 * int64_t(t[0]));
  const Vec3<T> b = load3(vertices + 3 * int64_t(t[1]));
  const Vec3<T> c = load3(vertices + 3 * int64_t(t[2]));
  return cross(b - a, c - a);
}

// n_v and 1 / |S_v| from S_v.
template <typename T>
GARFAST_HD void unit_normal(Vec3<T> sum, T* normal, T* inverse_length) {
  const T length = std::sqrt(dot(sum, sum));
  const T inverse = length > T(0) ? T(1) / length : T(0);
  store3(normal, inverse > T(0) ? sum * inverse : Vec3<T>{0, 0, 0});
  *inverse_length = inverse;
}

// n_v and 1 / |S_v| of one vertex of one mesh.
template <typename T>
GARFAST_HD void vertex_normal(const T* vertices, const int32_t* triangles, const int32_t* offsets,
                              const int32_t* corners, int64_t v, T* normal, T* inverse_length) {
  Vec3<T> sum{0, 0, 0};
  for (int32_t i = offsets[v]; i < offsets[v + 1]; ++i)
    sum = sum + weighted_normal(vertices, triangles + 3 * int64_t(corners[i] / 3));
  unit_normal(sum, normal, inverse_length);
}

// dL/dS_v = (g - n (n . g)) / |S_v|
template <typename T>
GARFAST_HD void vertex_normal_grad_sum(const T* normal, T inverse_length, const T* grad_normal, T* grad_sum) {
  const Vec3<T> n = load3(normal), g = load3(grad_normal);
  store3(grad_sum, inverse_length > T(0) ? (g - n * dot(n, g)) * inverse_length : Vec3<T>{0, 0, 0});
}

// dL/dv: with G = sum of dL/dS over a triangle's corners, c_f = (p1 - p0) x (p2 - p0) gives for each of its corners k
//     dL/dp_k = (p_{k+1} - p_{k+2}) x G      (indices modulo 3)
template <typename T>
GARFAST_HD void vertex_normal_grad_vertex(const T* vertices, const int32_t* triangles, const int32_t* offsets,
                                          const int32_t* corners, const T* grad_sum, int64_t v, T* grad_vertex) {
  Vec3<T> total{0, 0, 0};
  for (int32_t i = offsets[v]; i < offsets[v + 1]; ++i) {
    const int32_t k = corners[i] % 3;
    const int32_t* t = triangles + 3 * int64_t(corners[i] / 3);
    const Vec3<T> g =
        load3(grad_sum + 3 * int64_t(t[0])) + load3(grad_sum + 3 * int64_t(t[1])) + load3(grad_sum + 3 * int64_t(t[2]));
    if (g.x == T(0) && g.y == T(0) && g.z == T(0)) continue;  // its corners may be anything
    const Vec3<T> next = load3(vertices + 3 * int64_t(t[k == 2 ? 0 : k + 1]));
    const Vec3<T> previous = load3(vertices + 3 * int64_t(t[k == 0 ? 2 : k - 1]));
    total = total + cross(next - previous, g);
  }
  store3(grad_vertex, total);
}

GARFAST_MATH_END

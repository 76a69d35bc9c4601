// The argument lists that garfast._cpu and garfast._cuda share for vertex_normals.
#pragma once

#include "garfast/vertex_normals.h"
#include "pointers.h"

namespace garfast {

template <typename T>
VertexNormalsParams<T> vertex_normals_params(std::uintptr_t vertices, std::uintptr_t triangles, std::uintptr_t offsets,
                                             std::uintptr_t corners, std::uintptr_t normals,
                                             std::uintptr_t inverse_length, int64_t batch, int64_t num_vertices) {
  return {in<T>(vertices),
          in<int32_t>(triangles),
          in<int32_t>(offsets),
          in<int32_t>(corners),
          out<T>(normals),
          out<T>(inverse_length),
          batch,
          num_vertices,
          1};
}

template <typename T>
VertexNormalsBackwardParams<T> vertex_normals_backward_params(std::uintptr_t vertices, std::uintptr_t triangles,
                                                              std::uintptr_t offsets, std::uintptr_t corners,
                                                              std::uintptr_t normals, std::uintptr_t inverse_length,
                                                              std::uintptr_t grad_normals, std::uintptr_t grad_sum,
                                                              std::uintptr_t grad_vertices, int64_t batch,
                                                              int64_t num_vertices) {
  return {in<T>(vertices),       in<int32_t>(triangles),
          in<int32_t>(offsets),  in<int32_t>(corners),
          in<T>(normals),        in<T>(inverse_length),
          in<T>(grad_normals),   out<T>(grad_sum),
          out<T>(grad_vertices), batch,
          num_vertices,          1};
}

}  // namespace garfast

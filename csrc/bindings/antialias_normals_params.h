// The argument lists that garfast._cpu and garfast._cuda share for the anti-aliasing of rasterize_normals.
#pragma once

#include <array>

#include "garfast/antialias_normals.h"
#include "rasterize_normals_params.h"

namespace garfast {

// Addresses in the order of AntialiasScene's pointers.
template <typename T>
AntialiasScene<T> antialias_scene(const std::array<std::uintptr_t, 12>& a, const std::vector<int64_t>& sizes,
                                  int64_t batch, int64_t num_vertices, int64_t num_triangles, bool pinhole, bool cull,
                                  double near) {
  return {in<T>(a[0]),
          in<int32_t>(a[1]),
          in<T>(a[2]),
          in<T>(a[3]),
          in<int32_t>(a[4]),
          in<int32_t>(a[5]),
          in<T>(a[6]),
          in<T>(a[7]),
          in<int32_t>(a[8]),
          in<T>(a[9]),
          out<RasterVertex<T>>(a[10]),
          out<unsigned long long>(a[11]),
          raster_levels(sizes),
          batch,
          num_vertices,
          num_triangles,
          pinhole,
          cull,
          T(near)};
}

// outputs: normals, mask, total.
template <typename T>
AntialiasParams<T> antialias_params(const std::array<std::uintptr_t, 12>& scene,
                                    const std::array<std::uintptr_t, 3>& outputs, const std::vector<int64_t>& sizes,
                                    int64_t batch, int64_t num_vertices, int64_t num_triangles, bool pinhole, bool cull,
                                    double near) {
  return {antialias_scene<T>(scene, sizes, batch, num_vertices, num_triangles, pinhole, cull, near), out<T>(outputs[0]),
          out<T>(outputs[1]), out<T>(outputs[2]), 1};
}

// inputs: normals, mask, total, grad_normals, grad_mask. outputs: grad_corners, grad_input, grad_vertices,
// grad_vertex_normals, grad_camera_parts.
template <typename T>
AntialiasBackwardParams<T> antialias_backward_params(const std::array<std::uintptr_t, 12>& scene,
                                                     const std::array<std::uintptr_t, 5>& inputs,
                                                     const std::array<std::uintptr_t, 5>& outputs,
                                                     const std::vector<int64_t>& sizes, int64_t batch,
                                                     int64_t num_vertices, int64_t num_triangles, bool pinhole,
                                                     bool cull, double near) {
  return {antialias_scene<T>(scene, sizes, batch, num_vertices, num_triangles, pinhole, cull, near),
          in<T>(inputs[0]),
          in<T>(inputs[1]),
          in<T>(inputs[2]),
          in<T>(inputs[3]),
          in<T>(inputs[4]),
          out<RasterCornerGrad<T>>(outputs[0]),
          out<T>(outputs[1]),
          out<T>(outputs[2]),
          out<T>(outputs[3]),
          out<T>(outputs[4]),
          1};
}

}  // namespace garfast

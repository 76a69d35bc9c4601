// The argument lists that garfast._cpu and garfast._cuda share for rasterize_normals.
#pragma once

#include <stdexcept>
#include <vector>

#include "garfast/rasterize_normals.h"
#include "pointers.h"

namespace garfast {

// sizes: height and width of every level in turn.
inline RasterLevels raster_levels(const std::vector<int64_t>& sizes) {
  if (sizes.size() % 2 || sizes.size() / 2 > size_t(kMaxRasterLevels))
    throw std::invalid_argument("rasterize_normals: at most " + std::to_string(kMaxRasterLevels) + " resolutions");
  RasterLevels levels{};
  levels.count = int(sizes.size() / 2);
  for (int l = 0; l < levels.count; ++l) {
    levels.height[l] = int32_t(sizes[2 * l]);
    levels.width[l] = int32_t(sizes[2 * l + 1]);
    levels.start[l + 1] = levels.start[l] + sizes[2 * l] * sizes[2 * l + 1];
    levels.bordered_start[l + 1] = levels.bordered_start[l] + (sizes[2 * l] + 2) * (sizes[2 * l + 1] + 2);
  }
  return levels;
}

template <typename T>
RasterizeParams<T> rasterize_params(std::uintptr_t vertices, std::uintptr_t triangles, std::uintptr_t camera,
                                    std::uintptr_t vertex_normals, std::uintptr_t normals, std::uintptr_t mask,
                                    std::uintptr_t ids, std::uintptr_t barycentrics, std::uintptr_t depth,
                                    std::uintptr_t screen, std::uintptr_t keys, const std::vector<int64_t>& sizes,
                                    int64_t batch, int64_t num_vertices, int64_t num_triangles, bool pinhole, bool cull,
                                    double near) {
  return {in<T>(vertices),
          in<int32_t>(triangles),
          in<T>(camera),
          in<T>(vertex_normals),
          out<T>(normals),
          out<T>(mask),
          out<int32_t>(ids),
          out<T>(barycentrics),
          out<T>(depth),
          out<RasterVertex<T>>(screen),
          out<unsigned long long>(keys),
          raster_levels(sizes),
          batch,
          num_vertices,
          num_triangles,
          pinhole,
          cull,
          T(near),
          1};
}

template <typename T>
RasterizeBackwardParams<T> rasterize_backward_params(
    std::uintptr_t vertices, std::uintptr_t triangles, std::uintptr_t camera, std::uintptr_t vertex_normals,
    std::uintptr_t offsets, std::uintptr_t corners, std::uintptr_t ids, std::uintptr_t grad_normals,
    std::uintptr_t grad_barycentrics, std::uintptr_t grad_depth, std::uintptr_t screen, std::uintptr_t grad_corners,
    std::uintptr_t grad_vertices, std::uintptr_t grad_vertex_normals, std::uintptr_t grad_camera_parts,
    const std::vector<int64_t>& sizes, int64_t batch, int64_t num_vertices, int64_t num_triangles, bool pinhole,
    bool cull, double near) {
  return {in<T>(vertices),
          in<int32_t>(triangles),
          in<T>(camera),
          in<T>(vertex_normals),
          in<int32_t>(offsets),
          in<int32_t>(corners),
          in<int32_t>(ids),
          in<T>(grad_normals),
          in<T>(grad_barycentrics),
          in<T>(grad_depth),
          out<RasterVertex<T>>(screen),
          out<RasterCornerGrad<T>>(grad_corners),
          out<T>(grad_vertices),
          out<T>(grad_vertex_normals),
          out<T>(grad_camera_parts),
          raster_levels(sizes),
          batch,
          num_vertices,
          num_triangles,
          pinhole,
          cull,
          T(near),
          1};
}

}  // namespace garfast

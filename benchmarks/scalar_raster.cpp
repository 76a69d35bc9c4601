// What rasterize_normals is measured against: the loop one writes first. For one resolution, project the vertices, then
// for every triangle test every pixel of its box; nearest triangle and barycentrics only. Threads share out the rows.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

extern "C" void scalar_raster(const float* vertices, int64_t num_vertices, const int32_t* triangles,
                              int64_t num_triangles, const float* camera, int width, int height, int32_t* ids,
                              float* barycentrics, float* depth, int threads) {
  std::vector<float> screen(3 * num_vertices);
  for (int64_t i = 0; i < num_vertices; ++i) {
    screen[3 * i] = (camera[0] * vertices[3 * i] + camera[2] + 1) * 0.5f * width;
    screen[3 * i + 1] = (1 - camera[1] * vertices[3 * i + 1] - camera[3]) * 0.5f * height;
    screen[3 * i + 2] = -vertices[3 * i + 2];
  }
  const int64_t plane = int64_t(width) * height;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int part = 0; part < threads; ++part) {
    const int row_begin = height * part / threads, row_end = height * (part + 1) / threads;
    for (int64_t i = int64_t(row_begin) * width; i < int64_t(row_end) * width; ++i) {
      ids[i] = -1;
      depth[i] = std::numeric_limits<float>::infinity();
      for (int c = 0; c < 3; ++c) barycentrics[c * plane + i] = 0;
    }
    for (int64_t t = 0; t < num_triangles; ++t) {
      const float* a = &screen[3 * triangles[3 * t]];
      const float* b = &screen[3 * triangles[3 * t + 1]];
      const float* c = &screen[3 * triangles[3 * t + 2]];
      const float area = (c[0] - a[0]) * (b[1] - a[1]) - (b[0] - a[0]) * (c[1] - a[1]);
      if (!(area > 0)) continue;
      const int left = std::max(0, int(std::ceil(std::min({a[0], b[0], c[0]}) - 0.5f)));
      const int right = std::min(width - 1, int(std::floor(std::max({a[0], b[0], c[0]}) - 0.5f)));
      const int top = std::max(row_begin, int(std::ceil(std::min({a[1], b[1], c[1]}) - 0.5f)));
      const int bottom = std::min(row_end - 1, int(std::floor(std::max({a[1], b[1], c[1]}) - 0.5f)));
      for (int row = top; row <= bottom; ++row)
        for (int column = left; column <= right; ++column) {
          const float x = column + 0.5f, y = row + 0.5f;
          const float e0 = (b[1] - y) * (c[0] - x) - (b[0] - x) * (c[1] - y);
          const float e1 = (c[1] - y) * (a[0] - x) - (c[0] - x) * (a[1] - y);
          const float e2 = (a[1] - y) * (b[0] - x) - (a[0] - x) * (b[1] - y);
          if (e0 < 0 || e1 < 0 || e2 < 0) continue;
          const float b0 = e0 / area, b1 = e1 / area, b2 = e2 / area;
          const float z = b0 * a[2] + b1 * b[2] + b2 * c[2];
          const int64_t i = int64_t(row) * width + column;
          if (z >= depth[i]) continue;
          depth[i] = z;
          ids[i] = int32_t(t);
          barycentrics[i] = b0;
          barycentrics[plane + i] = b1;
          barycentrics[2 * plane + i] = b2;
        }
    }
  }
}

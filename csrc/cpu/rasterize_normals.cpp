// The rasteriser on the CPU, in three steps:
//   1. A vector of triangles at once: facing, then their pixel boxes at every level. At the coarse levels most hold no
//      pixel centre and are done with. The others are listed by band, a strip of rows small enough to stay in cache.
//   2. One thread per band, so no atomics: each lane of a vector walks through the box of its own triangle (they are a
//      few pixels each; big ones go row by row), and hits are written one after another.
//   3. While the band is in cache: normals from the barycentrics, mask, background.
// What a pixel shows does not depend on the order of the triangles or on the number of threads: the nearest wins, and
// of two equally near the one with the lower index.
#include "garfast/rasterize_normals.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "rasterize_lanes.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

constexpr int64_t kBandPixels = 8192;
// Boxes of more pixels than this go row by row instead of in a lane.
constexpr int kLaneBox = 256;

// A growing list of triangles. Not std::vector<int32_t>: its functions are one symbol for all instruction sets, and the
// linker might keep one that this machine cannot run (see isa.h). Types of this namespace are our own.
struct List {
  int32_t* data = nullptr;
  size_t size = 0, capacity = 0;

  List() = default;
  List(const List&) = delete;
  ~List() { std::free(data); }
  void push(int32_t value) {
    if (size == capacity) {
      capacity = capacity ? 2 * capacity : 256;
      data = static_cast<int32_t*>(std::realloc(data, capacity * sizeof(int32_t)));
      if (!data) throw std::bad_alloc();
    }
    data[size++] = value;
  }
};

struct Band {
  int level, row_begin, row_end;
};

struct Order {
  int band;
  int64_t pixels;
};

// The bands of one sample at every level, and how to find them from a row.
struct Bands {
  std::vector<Band> all;
  std::vector<Order> order;  // the biggest first, so that no thread is left with one at the end
  int first[kMaxRasterLevels], shift[kMaxRasterLevels];

  explicit Bands(const RasterLevels& levels) {
    for (int l = 0; l < levels.count; ++l) {
      first[l] = int(all.size());
      shift[l] = 0;
      while ((int64_t(2) << shift[l]) * levels.width[l] <= kBandPixels) ++shift[l];
      for (int row = 0; row < levels.height[l]; row += 1 << shift[l])
        all.push_back({l, row, std::min(row + (1 << shift[l]), levels.height[l])});
    }
    for (size_t i = 0; i < all.size(); ++i)
      order.push_back({int(i), int64_t(all[i].row_end - all[i].row_begin) * levels.width[all[i].level]});
    std::sort(order.begin(), order.end(), [](const Order& a, const Order& b) { return a.pixels > b.pixels; });
  }
};

template <typename T>
void project(const RasterizeParams<T>& p) {
  const int64_t total = p.batch * p.num_vertices;
#pragma omp for schedule(static)
  for (int64_t i = 0; i < total; ++i)
    p.screen[i] = raster_vertex(p.vertices + 3 * i, p.vertex_normals + 3 * i, p.camera + 4 * (i / p.num_vertices),
                                p.pinhole, p.near);
}

// Appends the triangles [begin, end) of sample b to the lists of the bands they may touch.
template <typename T>
void list_triangles(const RasterizeParams<T>& p, int64_t b, int64_t begin, int64_t end, const Bands& bands,
                    List* lists) {
  using S = Simd<T>;
  using V = typename S::V;
  const RasterVertex<T>* screen = p.screen + b * p.num_vertices;
  for (int64_t base = begin; base < end; base += S::kLanes) {
    const int count = int(std::min<int64_t>(S::kLanes, end - base));
    V x[3], y[3];
    for (int k = 0; k < 3; ++k) {
      T gx[S::kLanes], gy[S::kLanes];
      for (int l = 0; l < S::kLanes; ++l) {
        const RasterVertex<T>& s = screen[p.triangles[3 * (base + (l < count ? l : 0)) + k]];
        gx[l] = s.x;
        gy[l] = s.y;
      }
      x[k] = load<V>(gx);
      y[k] = load<V>(gy);
    }
    const V area = screen_area(x[0], y[0], x[1], y[1], x[2], y[2]);
    auto drawn = area > T(0);
    if (!p.cull) drawn |= area < T(0);
    const unsigned live = mask_bits(drawn) & ((1u << count) - 1);
    if (!live) continue;
    const V x_low = lower(lower(x[0], x[1]), x[2]), x_high = upper(upper(x[0], x[1]), x[2]);
    const V y_low = lower(lower(y[0], y[1]), y[2]), y_high = upper(upper(y[0], y[1]), y[2]);
    for (int level = 0; level < p.levels.count; ++level) {
      const T half_width = T(p.levels.width[level]) * T(0.5), half_height = T(p.levels.height[level]) * T(0.5);
      // Rounding is monotonic, so the extreme of the rounded coordinates is the rounded extreme.
      const auto left = first_pixels<T>(pixel_u(x_low, half_width));
      const auto right = last_pixels<T>(pixel_u(x_high, half_width), p.levels.width[level]);
      const auto top = first_pixels<T>(pixel_v(y_high, half_height));
      const auto bottom = last_pixels<T>(pixel_v(y_low, half_height), p.levels.height[level]);
      unsigned bits = mask_bits((left <= right) & (top <= bottom)) & live;
      if (!bits) continue;
      const int shift = bands.shift[level];
      for (; bits; bits &= bits - 1) {
        const int l = __builtin_ctz(bits);
        for (int band = int(top[l]) >> shift; band <= int(bottom[l]) >> shift; ++band)
          lists[bands.first[level] + band].push(int32_t(base + l));
      }
    }
  }
}

// The images of one sample at one level.
template <typename T>
struct Target {
  int32_t* ids;
  T *depth, *barycentrics, *normals, *mask;
  int64_t plane;
  int32_t width;

  Target(const RasterizeParams<T>& p, int64_t b, int level) {
    width = p.levels.width[level];
    plane = int64_t(p.levels.height[level]) * width;
    const int64_t start = p.batch * p.levels.start[level] + b * plane;
    const int64_t start3 = 3 * start;
    ids = p.ids + start;
    depth = p.depth + start;
    mask = p.mask + start;
    barycentrics = p.barycentrics + start3;
    normals = p.normals + start3;
  }

  // flipped: a back face, drawn with its second and third vertex swapped.
  void hit(int64_t i, int32_t triangle, T d, T b0, T b1, T b2, bool flipped) {
    if (!(d < depth[i] || (d == depth[i] && triangle < ids[i]))) return;
    depth[i] = d;
    ids[i] = triangle;
    T* b = barycentrics + i;
    b[0] = b0;
    b[plane] = flipped ? b2 : b1;
    b[2 * plane] = flipped ? b1 : b2;
  }
};

// Inside, or on an edge that the triangle owns.
template <typename V, typename M>
inline M covered(const V* e, const M* owned) {
  M inside = e[0] >= 0;
  inside &= e[1] >= 0;
  inside &= e[2] >= 0;
  for (int k = 0; k < 3; ++k) inside &= (e[k] > 0) | owned[k];
  return inside;
}

template <typename T>
void draw_rows(const PixelTriangle<T>& t, const PixelBox& box, int32_t triangle, bool flipped, Target<T>& target) {
  using S = Simd<T>;
  using V = typename S::V;
  using M = typename S::M;
  PixelTriangle<V> lanes;
  M owned[3];
  for (int k = 0; k < 3; ++k) {
    lanes.u[k] = fill<V>(t.u[k]);
    lanes.v[k] = fill<V>(t.v[k]);
    lanes.depth[k] = fill<V>(t.depth[k]);
    lanes.inverse_w[k] = fill<V>(t.inverse_w[k]);
    const int a = k == 2 ? 0 : k + 1, b = k == 0 ? 2 : k - 1;
    owned[k] = fill<M>(owns_edge(t.u[a], t.v[a], t.u[b], t.v[b]) ? -1 : 0);
  }
  const V one = fill<V>(T(1));
  for (int row = box.top; row <= box.bottom; ++row) {
    for (int column = box.left; column <= box.right; column += S::kLanes) {
      RasterSample<V> s;
      edge_functions(lanes, iota<V>() + (T(column) + T(0.5)), fill<V>(T(row) + T(0.5)), s);
      unsigned bits = mask_bits(covered(s.e, owned));
      const int left = box.right - column + 1;
      if (left < S::kLanes) bits &= (1u << left) - 1;
      if (!bits) continue;
      perspective_weights(lanes, one, s);
      const V depth = sample_depth(lanes, s);
      const V b0 = s.q[0] * s.inverse, b1 = s.q[1] * s.inverse, b2 = s.q[2] * s.inverse;
      for (; bits; bits &= bits - 1) {
        const int l = __builtin_ctz(bits);
        target.hit(int64_t(row) * target.width + column + l, triangle, depth[l], b0[l], b1[l], b2[l], flipped);
      }
    }
  }
}

// Draws up to kLanes triangles, one in each lane.
template <typename T>
void draw_lanes(const RasterizeParams<T>& p, const RasterVertex<T>* screen, const int32_t* triangles, int count,
                const Band& band, Target<T>& target) {
  using S = Simd<T>;
  using V = typename S::V;
  using M = typename S::M;
  T gathered[12][S::kLanes];
  bool flipped[S::kLanes];
  for (int l = 0; l < S::kLanes; ++l) {
    const int32_t* t = p.triangles + 3 * int64_t(triangles[l < count ? l : 0]);
    const RasterVertex<T>* s[3] = {screen + t[0], screen + t[1], screen + t[2]};
    flipped[l] = !p.cull && screen_area(s[0]->x, s[0]->y, s[1]->x, s[1]->y, s[2]->x, s[2]->y) < T(0);
    if (flipped[l]) std::swap(s[1], s[2]);
    for (int k = 0; k < 3; ++k) {
      gathered[k][l] = s[k]->x;
      gathered[3 + k][l] = s[k]->y;
      gathered[6 + k][l] = s[k]->depth;
      gathered[9 + k][l] = s[k]->inverse_w;
    }
  }
  const int32_t width = p.levels.width[band.level], height = p.levels.height[band.level];
  PixelTriangle<V> t;
  for (int k = 0; k < 3; ++k) {
    t.u[k] = pixel_u(load<V>(gathered[k]), T(width) * T(0.5));
    t.v[k] = pixel_v(load<V>(gathered[3 + k]), T(height) * T(0.5));
    t.depth[k] = load<V>(gathered[6 + k]);
    t.inverse_w[k] = load<V>(gathered[9 + k]);
  }
  const auto first_row = fill<typename S::I>(band.row_begin), last_row = fill<typename S::I>(band.row_end - 1);
  const auto left = first_pixels<T>(lower(lower(t.u[0], t.u[1]), t.u[2]));
  const auto right = last_pixels<T>(upper(upper(t.u[0], t.u[1]), t.u[2]), width);
  const auto top = upper(first_pixels<T>(lower(lower(t.v[0], t.v[1]), t.v[2])), first_row);
  const auto bottom = lower(last_pixels<T>(upper(upper(t.v[0], t.v[1]), t.v[2]), height), last_row);

  int steps = 0;
  unsigned live = 0;
  for (int l = 0; l < count; ++l) {
    const int64_t pixels = int64_t(right[l] - left[l] + 1) * (bottom[l] - top[l] + 1);
    if (pixels <= kLaneBox) {
      steps = std::max(steps, int(pixels));
      live |= 1u << l;
      continue;
    }
    PixelTriangle<T> one;
    for (int k = 0; k < 3; ++k) {
      one.u[k] = t.u[k][l];
      one.v[k] = t.v[k][l];
      one.depth[k] = t.depth[k][l];
      one.inverse_w[k] = t.inverse_w[k][l];
    }
    draw_rows(one, {int32_t(left[l]), int32_t(top[l]), int32_t(right[l]), int32_t(bottom[l])}, triangles[l], flipped[l],
              target);
  }

  M owned[3];
  for (int k = 0; k < 3; ++k) {
    const int a = k == 2 ? 0 : k + 1, b = k == 0 ? 2 : k - 1;
    owned[k] = (t.v[b] > t.v[a]) | ((t.v[b] == t.v[a]) & (t.u[b] < t.u[a]));
  }
  const V one = fill<V>(T(1));
  const V x_first = to_float<V>(left) + T(0.5), x_last = to_float<V>(right) + T(0.5);
  const V y_last = to_float<V>(bottom) + T(0.5);
  V px = x_first, py = to_float<V>(top) + T(0.5);
  for (int step = 0; step < steps; ++step) {
    RasterSample<V> s;
    edge_functions(t, px, py, s);
    unsigned bits = mask_bits(covered(s.e, owned) & (py <= y_last)) & live;
    if (bits) {
      perspective_weights(t, one, s);
      const V depth = sample_depth(t, s);
      const V b0 = s.q[0] * s.inverse, b1 = s.q[1] * s.inverse, b2 = s.q[2] * s.inverse;
      const auto pixel = to_int<T>(py) * width + to_int<T>(px);
      for (; bits; bits &= bits - 1) {
        const int l = __builtin_ctz(bits);
        target.hit(pixel[l], triangles[l], depth[l], b0[l], b1[l], b2[l], flipped[l]);
      }
    }
    px += T(1);
    const auto wrap = px > x_last;
    px = wrap ? x_first : px;
    py += wrap ? one : fill<V>(T(0));
  }
}

// Normals, mask and background of the pixels [begin, end) of a level.
template <typename T>
void resolve(const RasterizeParams<T>& p, const RasterVertex<T>* screen, int64_t begin, int64_t end,
             Target<T>& target) {
  constexpr int kBlock = 16;
  typedef T Quad __attribute__((vector_size(4 * sizeof(T))));
  const int64_t plane = target.plane;
  for (int64_t base = begin; base < end; base += kBlock) {
    const int count = int(std::min<int64_t>(kBlock, end - base));
    bool covered = false;
    for (int l = 0; l < count; ++l) covered |= target.ids[base + l] >= 0;
    T* normals = target.normals + base;
    if (!covered) {  // most blocks around a face
      for (int c = 0; c < 3; ++c) std::fill(normals + c * plane, normals + c * plane + count, T(0));
      std::fill(target.mask + base, target.mask + base + count, T(0));
      std::fill(target.depth + base, target.depth + base + count, T(0));
      continue;
    }
    T sums[kBlock][4] = {};
    for (int l = 0; l < count; ++l) {
      const int32_t id = target.ids[base + l];
      if (id < 0) continue;
      const int32_t* t = p.triangles + 3 * int64_t(id);
      const T* b = target.barycentrics + base + l;
      Quad n[3];
      for (int k = 0; k < 3; ++k) std::memcpy(&n[k], screen[t[k]].normal, sizeof(Quad));
      const Quad sum = n[0] * b[0] + n[1] * b[plane] + n[2] * b[2 * plane];
      std::memcpy(sums[l], &sum, sizeof(Quad));
    }
    for (int l = 0; l < count; ++l) {
      const T x = sums[l][0], y = sums[l][1], z = sums[l][2];
      const T squared = x * x + y * y + z * z;
      const T scale = squared > T(0) ? T(1) / std::sqrt(squared) : T(0);
      const bool hit = target.ids[base + l] >= 0;
      normals[l] = x * scale;
      normals[l + plane] = y * scale;
      normals[l + 2 * plane] = z * scale;
      target.mask[base + l] = hit ? T(1) : T(0);
      target.depth[base + l] = hit ? target.depth[base + l] : T(0);
    }
  }
}

template <typename T>
void draw_band(const RasterizeParams<T>& p, int64_t b, const Band& band, const List* lists, int64_t stride,
               int64_t count) {
  Target<T> target(p, b, band.level);
  const RasterVertex<T>* screen = p.screen + b * p.num_vertices;
  const int64_t begin = int64_t(band.row_begin) * target.width, end = int64_t(band.row_end) * target.width;
  std::fill(target.ids + begin, target.ids + end, -1);
  std::fill(target.depth + begin, target.depth + end, std::numeric_limits<T>::infinity());
  for (int c = 0; c < 3; ++c)
    std::fill(target.barycentrics + c * target.plane + begin, target.barycentrics + c * target.plane + end, T(0));
  for (int64_t i = 0; i < count; ++i) {
    const List& list = lists[i * stride];
    for (size_t j = 0; j < list.size; j += Simd<T>::kLanes)
      draw_lanes(p, screen, list.data + j, int(std::min<size_t>(Simd<T>::kLanes, list.size - j)), band, target);
  }
  resolve(p, screen, begin, end, target);
}

template <typename T>
void forward(const RasterizeParams<T>& p) {
  const Bands bands(p.levels);
  const int64_t per_sample = int64_t(bands.all.size());
  const int64_t chunks = std::max<int64_t>(1, std::min<int64_t>(p.num_threads, p.num_triangles / 1024));
  const int64_t chunk = (p.num_triangles + chunks - 1) / chunks;
  std::vector<List> lists(p.batch * chunks * per_sample);
#pragma omp parallel num_threads(p.num_threads)
  {
    project(p);
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < p.batch * chunks; ++i) {
      const int64_t begin = i % chunks * chunk;
      list_triangles(p, i / chunks, begin, std::min(begin + chunk, p.num_triangles), bands, &lists[i * per_sample]);
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < p.batch * per_sample; ++i) {
      const int64_t b = i % p.batch, band = bands.order[i / p.batch].band;
      draw_band(p, b, bands.all[band], &lists[b * chunks * per_sample + band], per_sample, chunks);
    }
  }
}

}  // namespace

void rasterize_normals_forward(const RasterizeParams<float>& p) { forward(p); }
void rasterize_normals_forward(const RasterizeParams<double>& p) { forward(p); }

}  // namespace GARFAST_ISA
}  // namespace garfast

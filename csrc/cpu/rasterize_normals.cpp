// The rasteriser on the CPU, in three steps:
//   1. A vector of triangles at once: facing, then their pixel boxes at the levels where one of them may hold a pixel
//      centre, which at the coarse levels few do. Those that do are listed by band, a strip of rows small enough to
//      stay in cache.
//   2. One thread per band, so no atomics: each lane of a vector walks through the box of its own triangle (they are a
//      few pixels each; big ones go row by row), and the hits are drawn, all of a vector's triangles together, on the
//      thread's own canvas.
//   3. While the canvas is in cache: normals from the barycentrics, mask and background, everything written once.
// What a pixel shows does not depend on the order of the triangles or on the number of threads: the nearest wins, and
// of two equally near the one with the lower index.
#include "garfast/rasterize_normals.h"

#include <algorithm>
#include <vector>

#include "rasterize_bands.h"
#include "rasterize_canvas.h"
#include "rasterize_lanes.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

template <typename T>
void project(const RasterizeParams<T>& p) {
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t first = b * p.num_vertices;
#pragma omp for schedule(static) nowait
    for (int64_t i = first; i < first + p.num_vertices; ++i)
      p.screen[i] = raster_vertex(p.vertices + 3 * i, p.vertex_normals + 3 * i, p.camera + 4 * b, p.pinhole, p.near);
  }
#pragma omp barrier
}

// The first four numbers of corner k of kLanes triangles, a vector of each: x, y, depth and inverse_w.
template <typename T>
void corner(const RasterVertex<T>* screen, const int32_t* triangles, const int32_t* lanes, int k,
            typename Simd<T>::V* columns) {
  const T* places[Simd<T>::kLanes];
  for (int l = 0; l < Simd<T>::kLanes; ++l) places[l] = &screen[triangles[3 * int64_t(lanes[l]) + k]].x;
  transpose<T>(places, columns);
}

// Appends the triangles [begin, end) of sample b to the lists of the bands they may touch.
template <typename T>
void list_triangles(const RasterizeParams<T>& p, int64_t b, int64_t begin, int64_t end, const Bands& bands,
                    const LaneLevels<T>& levels, List* lists) {
  using S = Simd<T>;
  using V = typename S::V;
  const RasterVertex<T>* screen = p.screen + b * p.num_vertices;
  for (int64_t base = begin; base < end; base += S::kLanes) {
    const int count = int(std::min<int64_t>(S::kLanes, end - base));
    int32_t lanes[S::kLanes];
    for (int l = 0; l < S::kLanes; ++l) lanes[l] = int32_t(base + std::min(l, count - 1));
    V x[3], y[3];
    for (int k = 0; k < 3; ++k) {
      V columns[4];
      corner(screen, p.triangles, lanes, k, columns);
      x[k] = columns[0];
      y[k] = columns[1];
    }
    const V area = screen_area(x[0], y[0], x[1], y[1], x[2], y[2]);
    auto drawn = area > T(0);
    if (!p.cull) drawn |= area < T(0);
    drawn &= iota<typename S::I>() < count;
    const unsigned live = mask_bits(drawn);
    if (!live) continue;
    const V x_low = lower(lower(x[0], x[1]), x[2]), x_high = upper(upper(x[0], x[1]), x[2]);
    const V y_low = lower(lower(y[0], y[1]), y[2]), y_high = upper(upper(y[0], y[1]), y[2]);
    // Triangles that follow one another are neighbours as a rule: one box for all of them is small.
    const V far = fill<V>(std::numeric_limits<T>::infinity());
    unsigned seen = levels.seen(least<T>(drawn ? x_low : far), -least<T>(drawn ? -x_high : far),
                                least<T>(drawn ? y_low : far), -least<T>(drawn ? -y_high : far));
    for (; seen; seen &= seen - 1) {
      const int level = __builtin_ctz(seen);
      const T half_width = levels.half_width[level], half_height = levels.half_height[level];
      // Rounding is monotonic, so the extreme of the rounded coordinates is the rounded extreme.
      const auto left = first_pixels<T>(pixel_u(x_low, half_width));
      const auto right = last_pixels<T>(pixel_u(x_high, half_width), fill<V>(levels.last_column[level]));
      const auto top = first_pixels<T>(pixel_v(y_high, half_height));
      const auto bottom = last_pixels<T>(pixel_v(y_low, half_height), fill<V>(levels.last_row[level]));
      unsigned bits = mask_bits((left <= right) & (top <= bottom)) & live;
      if (!bits) continue;
      List* level_lists = lists + bands.first[level];
      const int shift = bands.shift[level];
      const auto top_band = top >> shift, bottom_band = bottom >> shift;
      const auto band = top_band[__builtin_ctz(bits)];
      if ((mask_bits((top_band == band) & (bottom_band == band)) & bits) == bits) {
        level_lists[band].template push_lanes<T>(bits, int32_t(base));
        continue;
      }
      for (; bits; bits &= bits - 1) {
        const int l = __builtin_ctz(bits);
        for (auto band = top_band[l]; band <= bottom_band[l]; ++band) level_lists[band].push(int32_t(base + l));
      }
    }
  }
}

// One bit per lane of `among` that is inside, or on edges that all are owned. e: the edge functions.
template <typename V, typename M>
inline unsigned covered(const PixelTriangle<V>& t, const V* e, M among) {
  const V least = lower(lower(e[0], e[1]), e[2]);
  const unsigned inside = mask_bits((least > 0) & among);
  M on_edge = (least == 0) & among;
  if (!mask_bits(on_edge)) return inside;  // hardly any centre is exactly on an edge
  for (int k = 0; k < 3; ++k) {
    const int a = k == 2 ? 0 : k + 1, b = k == 0 ? 2 : k - 1;
    const M owned = (t.v[b] > t.v[a]) | ((t.v[b] == t.v[a]) & (t.u[b] < t.u[a]));  // as in owns_edge()
    on_edge &= (e[k] > 0) | owned;
  }
  return inside | mask_bits(on_edge);
}

template <typename T>
void draw_rows(const PixelTriangle<T>& t, const PixelBox& box, int32_t triangle, bool flipped, const Band& band,
               int32_t width, Easel<T>& easel) {
  using S = Simd<T>;
  using V = typename S::V;
  using I = typename S::I;
  using M = typename S::M;
  PixelTriangle<V> lanes;
  for (int k = 0; k < 3; ++k) {
    lanes.u[k] = fill<V>(t.u[k]);
    lanes.v[k] = fill<V>(t.v[k]);
    lanes.depth[k] = fill<V>(t.depth[k]);
    lanes.inverse_w[k] = fill<V>(t.inverse_w[k]);
  }
  const V one = fill<V>(T(1));
  for (int row = box.top; row <= box.bottom; ++row) {
    for (int column = box.left; column <= box.right; column += S::kLanes) {
      RasterSample<V> s;
      edge_functions(lanes, iota<V>() + (T(column) + T(0.5)), fill<V>(T(row) + T(0.5)), s);
      unsigned bits = covered(lanes, s.e, M{} == 0);
      const int left = box.right - column + 1;
      if (left < S::kLanes) bits &= (1u << left) - 1;
      if (!bits) continue;
      perspective_weights(lanes, one, s);
      const V depth = sample_depth(lanes, s);
      const V b0 = s.q[0] * s.inverse, b1 = s.q[1] * s.inverse, b2 = s.q[2] * s.inverse;
      const int32_t first = (row - band.row_begin) * width + column;
      const int count = easel.hits.add(0, bits, iota<I>() + first, fill<I>(triangle), depth, b0, flipped ? b2 : b1,
                                       flipped ? b1 : b2);
      easel.hits.draw(count, easel.canvas);
    }
  }
}

// Draws the first `count` of kLanes triangles, one in each lane.
template <typename T>
void draw_lanes(const RasterizeParams<T>& p, const RasterVertex<T>* screen, const int32_t* triangles, int count,
                const Band& band, Easel<T>& easel) {
  using S = Simd<T>;
  using V = typename S::V;
  using I = typename S::I;
  using M = typename S::M;
  V x[3], y[3];
  PixelTriangle<V> t;
  for (int k = 0; k < 3; ++k) {
    V columns[4];
    corner(screen, p.triangles, triangles, k, columns);
    x[k] = columns[0];
    y[k] = columns[1];
    t.depth[k] = columns[2];
    t.inverse_w[k] = columns[3];
  }
  M flipped{};  // back faces are drawn with their second and third vertex swapped
  if (!p.cull) {
    flipped = screen_area(x[0], y[0], x[1], y[1], x[2], y[2]) < T(0);
    const auto swap = [&](V* v) {
      const V second = v[1];
      v[1] = flipped ? v[2] : second;
      v[2] = flipped ? second : v[2];
    };
    swap(x);
    swap(y);
    swap(t.depth);
    swap(t.inverse_w);
  }
  const int32_t width = p.levels.width[band.level], height = p.levels.height[band.level];
  for (int k = 0; k < 3; ++k) {
    t.u[k] = pixel_u(x[k], T(width) * T(0.5));
    t.v[k] = pixel_v(y[k], T(height) * T(0.5));
  }
  const auto left = first_pixels<T>(lower(lower(t.u[0], t.u[1]), t.u[2]));
  const auto right = last_pixels<T>(upper(upper(t.u[0], t.u[1]), t.u[2]), fill<V>(T(width - 1)));
  const auto top = upper(first_pixels<T>(lower(lower(t.v[0], t.v[1]), t.v[2])), fill<I>(band.row_begin));
  const auto bottom =
      lower(last_pixels<T>(upper(upper(t.v[0], t.v[1]), t.v[2]), fill<V>(T(height - 1))), fill<I>(band.row_end - 1));

  const I pixels = (right - left + 1) * (bottom - top + 1);
  const unsigned drawn = count == S::kLanes ? ~0u : (1u << count) - 1;
  for (unsigned bits = mask_bits(pixels > kLaneBox) & drawn; bits; bits &= bits - 1) {
    const int l = __builtin_ctz(bits);
    PixelTriangle<T> one;
    for (int k = 0; k < 3; ++k) {
      one.u[k] = t.u[k][l];
      one.v[k] = t.v[k][l];
      one.depth[k] = t.depth[k][l];
      one.inverse_w[k] = t.inverse_w[k][l];
    }
    draw_rows(one, {int32_t(left[l]), int32_t(top[l]), int32_t(right[l]), int32_t(bottom[l])}, triangles[l],
              flipped[l] != 0, band, width, easel);
  }
  const M live = (pixels <= kLaneBox) & (iota<I>() < count);
  const I in_lanes = pixels & live;
  const int steps = int(greatest<T>(in_lanes));

  const V one = fill<V>(T(1));
  const I ids = load_ints<T>(triangles);
  const V x_first = to_float<V>(left) + T(0.5), x_last = to_float<V>(right) + T(0.5);
  const V y_last = to_float<V>(bottom) + T(0.5);
  V px = x_first, py = to_float<V>(top) + T(0.5);
  I pixel = (top - band.row_begin) * width + left;
  const I to_next_row = width - 1 - (right - left);
  int found = 0;
  for (int step = 0; step < steps; ++step) {
    RasterSample<V> s;
    edge_functions(t, px, py, s);
    const unsigned bits = covered(t, s.e, (py <= y_last) & live);
    perspective_weights(t, one, s);
    const V depth = sample_depth(t, s);
    const V b0 = s.q[0] * s.inverse, b1 = s.q[1] * s.inverse, b2 = s.q[2] * s.inverse;
    found = easel.hits.add(found, bits, pixel, ids, depth, b0, flipped ? b2 : b1, flipped ? b1 : b2);
    px += T(1);
    const auto wrap = px > x_last;
    px = wrap ? x_first : px;
    py -= to_float<V>(wrap);
    pixel += 1 + (wrap & to_next_row);
  }
  easel.hits.draw(found, easel.canvas);
}

// The images of one sample at one level, from some pixel on.
template <typename T>
struct Images {
  int32_t* ids;
  T *depth, *mask, *barycentrics[3], *normals[3];
};

// Writes all images of a block of pixels: those of the canvas from `from` on become those of `to` from `at` on.
template <typename T>
void resolve_block(const RasterizeParams<T>& p, const RasterVertex<T>* screen, const Canvas<T>& canvas, int64_t from,
                   const Images<T>& to, int64_t at) {
  using S = Simd<T>;
  using V = typename S::V;
  static_assert(kBlock % S::kLanes == 0);
  const int32_t* ids = canvas.ids() + from;
  int32_t common = -1;
  for (int l = 0; l < kBlock; ++l) common &= ids[l];
  for (int l = 0; l < kBlock; l += S::kLanes) store(load<typename S::Int32>(ids + l), to.ids + at + l);
  if (common == -1) {  // most blocks around a face
    const auto clear = [&](T* plane) {
      for (int l = 0; l < kBlock; l += S::kLanes) store(V{}, plane + at + l);
    };
    clear(to.depth);
    clear(to.mask);
    for (int c = 0; c < 3; ++c) clear(to.barycentrics[c]), clear(to.normals[c]);
    return;
  }
  const T* depth = canvas.depth() + from;
  for (int first = 0; first < kBlock; first += S::kLanes, at += S::kLanes) {
    const auto shown = load<typename S::Int32>(ids + first);
    const auto seen = __builtin_convertvector(shown, typename S::I) >= 0;
    int32_t triangles[S::kLanes];
    store(upper(shown, typename S::Int32{}), triangles);
    const auto keep = [&](V v, T* plane) { store(seen ? v : V{}, plane + at); };
    keep(load<V>(depth + first), to.depth);
    keep(fill<V>(T(1)), to.mask);
    const int32_t* corners[S::kLanes];
    for (int l = 0; l < S::kLanes; ++l) corners[l] = p.triangles + 3 * int64_t(triangles[l]);
    V m[3];
    for (int k = 0; k < 3; ++k) {
      const V b = load<V>(canvas.barycentrics(k) + from + first);
      keep(b, to.barycentrics[k]);
      const T* places[S::kLanes];
      for (int l = 0; l < S::kLanes; ++l) places[l] = screen[corners[l][k]].normal;
      V n[4];
      transpose<T>(places, n);
      for (int c = 0; c < 3; ++c) m[c] = k == 0 ? n[c] * b : m[c] + n[c] * b;
    }
    const V squared = m[0] * m[0] + m[1] * m[1] + m[2] * m[2];
    const V scale = squared > 0 ? T(1) / square_root<T>(squared) : V{};
    for (int c = 0; c < 3; ++c) keep(squared > 0 ? m[c] * scale : V{}, to.normals[c]);
  }
}

template <typename T>
void resolve(const RasterizeParams<T>& p, const RasterVertex<T>* screen, const Canvas<T>& canvas, int64_t pixels,
             const Images<T>& images) {
  int64_t at = 0;
  for (; at + kBlock <= pixels; at += kBlock) resolve_block(p, screen, canvas, at, images, at);
  if (at == pixels) return;
  T values[8][kBlock];
  int32_t ids[kBlock];
  const Images<T> last{ids, values[0], values[1], {values[2], values[3], values[4]}, {values[5], values[6], values[7]}};
  resolve_block(p, screen, canvas, at, last, 0);
  const int64_t count = pixels - at;
  std::copy_n(ids, count, images.ids + at);
  std::copy_n(last.depth, count, images.depth + at);
  std::copy_n(last.mask, count, images.mask + at);
  for (int c = 0; c < 3; ++c) {
    std::copy_n(last.barycentrics[c], count, images.barycentrics[c] + at);
    std::copy_n(last.normals[c], count, images.normals[c] + at);
  }
}

template <typename T>
void draw_band(const RasterizeParams<T>& p, int64_t b, const Band& band, const List* lists, int64_t stride,
               int64_t count, Easel<T>& easel) {
  Canvas<T>& canvas = easel.canvas;
  const RasterVertex<T>* screen = p.screen + b * p.num_vertices;
  const int64_t width = p.levels.width[band.level], plane = p.levels.height[band.level] * width;
  const int64_t pixels = (band.row_end - band.row_begin) * width, first = band.row_begin * width;
  canvas.clear(pixels);
  constexpr int kLanes = Simd<T>::kLanes;
  for (int64_t i = 0; i < count; ++i) {
    const List& list = lists[i * stride];
    size_t j = 0;
    for (; j + kLanes <= list.size; j += kLanes) draw_lanes(p, screen, list.data + j, kLanes, band, easel);
    if (j == list.size) continue;
    int32_t last[kLanes];
    for (int l = 0; l < kLanes; ++l) last[l] = list.data[std::min(j + l, list.size - 1)];
    draw_lanes(p, screen, last, int(list.size - j), band, easel);
  }
  const int64_t start = p.batch * p.levels.start[band.level] + b * plane + first, start3 = 3 * (start - first) + first;
  resolve(p, screen, canvas, pixels,
          {p.ids + start,
           p.depth + start,
           p.mask + start,
           {p.barycentrics + start3, p.barycentrics + start3 + plane, p.barycentrics + start3 + 2 * plane},
           {p.normals + start3, p.normals + start3 + plane, p.normals + start3 + 2 * plane}});
}

template <typename T>
void forward(const RasterizeParams<T>& p) {
  const Bands bands(p.levels, p.batch, p.num_threads);
  const LaneLevels<T> levels(p.levels);
  const int64_t per_sample = int64_t(bands.all.size());
  // More than threads, since a part that faces away is done with sooner.
  const int64_t wanted = p.num_threads == 1 ? 1 : 4 * int64_t(p.num_threads);
  const int64_t chunks = std::max<int64_t>(1, std::min<int64_t>(wanted, p.num_triangles / 1024));
  const int64_t chunk = (p.num_triangles + chunks - 1) / chunks;
  std::vector<List> lists(p.batch * chunks * per_sample);
#pragma omp parallel num_threads(p.num_threads)
  {
    Easel<T> easel{Canvas<T>(bands.order.front().pixels), {}};
    project(p);
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < p.batch * chunks; ++i) {
      const int64_t begin = i % chunks * chunk;
      list_triangles(p, i / chunks, begin, std::min(begin + chunk, p.num_triangles), bands, levels,
                     &lists[i * per_sample]);
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < p.batch * per_sample; ++i) {
      const int64_t b = i % p.batch, band = bands.order[i / p.batch].band;
      draw_band(p, b, bands.all[band], &lists[b * chunks * per_sample + band], per_sample, chunks, easel);
    }
  }
}

}  // namespace

void rasterize_normals_forward(const RasterizeParams<float>& p) { forward(p); }
void rasterize_normals_forward(const RasterizeParams<double>& p) { forward(p); }

}  // namespace GARFAST_ISA
}  // namespace garfast

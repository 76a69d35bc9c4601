// The rasteriser on the CPU, in three steps:
//   1. A vector of triangles at once: facing, then their pixel boxes at every level. At the coarse levels most hold no
//      pixel centre and are done with. The others are listed by band, a strip of rows small enough to stay in cache.
//   2. One thread per band, so no atomics: each lane of a vector walks through the box of its own triangle (they are a
//      few pixels each; big ones go row by row), and hits are written one after another, to the thread's own canvas.
//   3. While the canvas is in cache: normals from the barycentrics, mask and background, everything written once.
// What a pixel shows does not depend on the order of the triangles or on the number of threads: the nearest wins, and
// of two equally near the one with the lower index.
#include "garfast/rasterize_normals.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <vector>

#include "rasterize_lanes.h"
#include "rows.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

constexpr int64_t kBandPixels = 8192;
// Boxes of more pixels than this go row by row instead of in a lane.
constexpr int kLaneBox = 256;
// Pixels that become images at once.
constexpr int kBlock = 16;

// A growing list of triangles. Not std::vector<int32_t>: its functions are one symbol for all instruction sets, and the
// linker might keep one that this machine cannot run (see isa.h). Types of this namespace are our own.
struct List {
  int32_t* data = nullptr;
  size_t size = 0, capacity = 0;

  List() = default;
  List(const List&) = delete;
  ~List() { std::free(data); }
  void push(int32_t value) {
    reserve(1);
    data[size++] = value;
  }
  // Appends first + l for every bit l of `bits` below `count`, without a branch that depends on them.
  void push_bits(unsigned bits, int count, int32_t first) {
    reserve(count);
    for (int l = 0; l < count; ++l) {
      data[size] = first + l;
      size += bits >> l & 1;
    }
  }

 private:
  void reserve(size_t more) {
    if (size + more <= capacity) return;
    capacity = capacity ? 2 * capacity : 256;
    data = static_cast<int32_t*>(std::realloc(data, capacity * sizeof(int32_t)));
    if (!data) throw std::bad_alloc();
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
                    List* lists) {
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
      List* level_lists = lists + bands.first[level];
      const int shift = bands.shift[level];
      const auto top_band = top >> shift, bottom_band = bottom >> shift;
      // Triangles that follow one another are neighbours as a rule.
      const auto band = top_band[__builtin_ctz(bits)];
      if ((mask_bits((top_band == band) & (bottom_band == band)) & bits) == bits) {
        level_lists[band].push_bits(bits, S::kLanes, int32_t(base));
        continue;
      }
      for (; bits; bits &= bits - 1) {
        const int l = __builtin_ctz(bits);
        for (auto band = top_band[l]; band <= bottom_band[l]; ++band) level_lists[band].push(int32_t(base + l));
      }
    }
  }
}

// What the triangles of one band leave behind, before it becomes images: only this small memory is written to more than
// once, and it stays in cache.
template <typename T>
class Canvas {
 public:
  // Planes start at different places within a page of memory, or their stores would wait for one another's loads.
  explicit Canvas(int64_t pixels)
      : stride_((pixels + kBlock - 1) / kBlock * kBlock + kBlock), ids_(stride_), values_(4 * stride_) {}

  int32_t* ids() { return ids_.data(); }
  T* depth() { return values_.data(); }
  T* barycentrics(int k) { return values_.data() + (k + 1) * stride_; }
  const int32_t* ids() const { return ids_.data(); }
  const T* depth() const { return values_.data(); }
  const T* barycentrics(int k) const { return values_.data() + (k + 1) * stride_; }

  // Nothing is seen at the first `pixels` pixels, nor at those up to the end of their last block.
  void clear(int64_t pixels) {
    const int64_t count = (pixels + kBlock - 1) / kBlock * kBlock;
    std::fill(ids(), ids() + count, -1);
    std::fill(depth(), depth() + count, std::numeric_limits<T>::infinity());
  }

 private:
  const int64_t stride_;
  Scratch<int32_t> ids_;
  Scratch<T> values_;
};

// A canvas to draw on.
template <typename T>
struct Target {
  int32_t* __restrict ids;
  T* __restrict depth;
  T* __restrict b0;
  T* __restrict b1;
  T* __restrict b2;
  int32_t width;

  Target(Canvas<T>& canvas, int32_t image_width)
      : ids(canvas.ids()),
        depth(canvas.depth()),
        b0(canvas.barycentrics(0)),
        b1(canvas.barycentrics(1)),
        b2(canvas.barycentrics(2)),
        width(image_width) {}

  void hit(int64_t i, int32_t triangle, T d, T w0, T w1, T w2) const {
    if (!(d < depth[i] || (d == depth[i] && triangle < ids[i]))) return;
    depth[i] = d;
    ids[i] = triangle;
    b0[i] = w0;
    b1[i] = w1;
    b2[i] = w2;
  }
};

// One bit per lane of `among` that is inside, or on edges that all are owned.
template <typename V, typename M>
inline unsigned covered(const V* e, const M* owned, M among) {
  const V least = lower(lower(e[0], e[1]), e[2]);
  const unsigned bits = mask_bits((least >= 0) & among);
  if (!bits) return 0;
  if (mask_bits((least > 0) & among) == bits) return bits;  // hardly any centre is exactly on an edge
  M allowed = among;
  for (int k = 0; k < 3; ++k) allowed &= (e[k] > 0) | owned[k];
  return bits & mask_bits(allowed);
}

template <typename T>
void draw_rows(const PixelTriangle<T>& t, const PixelBox& box, int32_t triangle, bool flipped, const Band& band,
               const Target<T> target) {
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
      unsigned bits = covered(s.e, owned, M{} == 0);
      const int left = box.right - column + 1;
      if (left < S::kLanes) bits &= (1u << left) - 1;
      if (!bits) continue;
      perspective_weights(lanes, one, s);
      const V depth = sample_depth(lanes, s);
      const V b0 = s.q[0] * s.inverse, b1 = s.q[1] * s.inverse, b2 = s.q[2] * s.inverse;
      const int64_t first = int64_t(row - band.row_begin) * target.width + column;
      for (; bits; bits &= bits - 1) {
        const int l = __builtin_ctz(bits);
        target.hit(first + l, triangle, depth[l], b0[l], flipped ? b2[l] : b1[l], flipped ? b1[l] : b2[l]);
      }
    }
  }
}

// Draws the first `count` of kLanes triangles, one in each lane.
template <typename T>
void draw_lanes(const RasterizeParams<T>& p, const RasterVertex<T>* screen, const int32_t* triangles, int count,
                const Band& band, const Target<T> target) {
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
  const auto right = last_pixels<T>(upper(upper(t.u[0], t.u[1]), t.u[2]), width);
  const auto top = upper(first_pixels<T>(lower(lower(t.v[0], t.v[1]), t.v[2])), fill<I>(band.row_begin));
  const auto bottom = lower(last_pixels<T>(upper(upper(t.v[0], t.v[1]), t.v[2]), height), fill<I>(band.row_end - 1));

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
              flipped[l] != 0, band, target);
  }
  const M live = (pixels <= kLaneBox) & (iota<I>() < count);
  const I in_lanes = pixels & live;
  int steps = 0;
  for (int l = 0; l < S::kLanes; ++l) steps = std::max(steps, int(in_lanes[l]));

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
    unsigned bits = covered(s.e, owned, (py <= y_last) & live);
    if (bits) {
      perspective_weights(t, one, s);
      const V depth = sample_depth(t, s);
      const V b0 = s.q[0] * s.inverse, b1 = s.q[1] * s.inverse, b2 = s.q[2] * s.inverse;
      const V second = flipped ? b2 : b1, third = flipped ? b1 : b2;
      const auto pixel = (to_int<T>(py) - band.row_begin) * width + to_int<T>(px);
      for (; bits; bits &= bits - 1) {
        const int l = __builtin_ctz(bits);
        target.hit(pixel[l], triangles[l], depth[l], b0[l], second[l], third[l]);
      }
    }
    px += T(1);
    const auto wrap = px > x_last;
    px = wrap ? x_first : px;
    py -= to_float<V>(wrap);
  }
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
    const auto seen = load_ints<T>(ids + first) >= 0;
    const auto keep = [&](V v, T* plane) { store(seen ? v : V{}, plane + at); };
    keep(load<V>(depth + first), to.depth);
    keep(fill<V>(T(1)), to.mask);
    const int32_t* corners[S::kLanes];
    for (int l = 0; l < S::kLanes; ++l) corners[l] = p.triangles + 3 * int64_t(std::max(ids[first + l], 0));
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
    for (int c = 0; c < 3; ++c) keep(m[c] * scale, to.normals[c]);
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
               int64_t count, Canvas<T>& canvas) {
  const RasterVertex<T>* screen = p.screen + b * p.num_vertices;
  const int64_t width = p.levels.width[band.level], plane = p.levels.height[band.level] * width;
  const int64_t pixels = (band.row_end - band.row_begin) * width, first = band.row_begin * width;
  canvas.clear(pixels);
  const Target<T> target(canvas, width);
  constexpr int kLanes = Simd<T>::kLanes;
  for (int64_t i = 0; i < count; ++i) {
    const List& list = lists[i * stride];
    size_t j = 0;
    for (; j + kLanes <= list.size; j += kLanes) draw_lanes(p, screen, list.data + j, kLanes, band, target);
    if (j == list.size) continue;
    int32_t last[kLanes];
    for (int l = 0; l < kLanes; ++l) last[l] = list.data[std::min(j + l, list.size - 1)];
    draw_lanes(p, screen, last, int(list.size - j), band, target);
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
  const Bands bands(p.levels);
  const int64_t per_sample = int64_t(bands.all.size());
  // More than threads, since a part that faces away is done with sooner.
  const int64_t wanted = p.num_threads == 1 ? 1 : 4 * int64_t(p.num_threads);
  const int64_t chunks = std::max<int64_t>(1, std::min<int64_t>(wanted, p.num_triangles / 1024));
  const int64_t chunk = (p.num_triangles + chunks - 1) / chunks;
  std::vector<List> lists(p.batch * chunks * per_sample);
#pragma omp parallel num_threads(p.num_threads)
  {
    Canvas<T> canvas(bands.order.front().pixels);
    project(p);
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < p.batch * chunks; ++i) {
      const int64_t begin = i % chunks * chunk;
      list_triangles(p, i / chunks, begin, std::min(begin + chunk, p.num_triangles), bands, &lists[i * per_sample]);
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < p.batch * per_sample; ++i) {
      const int64_t b = i % p.batch, band = bands.order[i / p.batch].band;
      draw_band(p, b, bands.all[band], &lists[b * chunks * per_sample + band], per_sample, chunks, canvas);
    }
  }
}

}  // namespace

void rasterize_normals_forward(const RasterizeParams<float>& p) { forward(p); }
void rasterize_normals_forward(const RasterizeParams<double>& p) { forward(p); }

}  // namespace GARFAST_ISA
}  // namespace garfast

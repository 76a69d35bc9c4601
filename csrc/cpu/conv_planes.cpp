#include "garfast/conv_planes.h"

#include <algorithm>

#include "epilogue.h"
#include "rows.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

// Below this many elements starting threads costs more than it saves.
constexpr int64_t kSerial = 16384;
constexpr int64_t kBlock = 64;

// The index along one side of the plane that a weight turned by 180 degrees has in place of `i`.
inline int turned(int i, bool flip) { return flip && (i == 0 || i == 3) ? 3 - i : i; }

inline int64_t columns_of(const PlaneChunk& c, int64_t width) { return c.samples * c.rows * width; }

// Where a row of a chunk is: sample and row in the image or grid, and its first column in the planes.
struct Line {
  int64_t sample, row, first;

  Line(const PlaneChunk& c, int64_t index, int64_t width)
      : sample(c.first_sample + index / c.rows), row(c.first_row + index % c.rows), first(index * width) {}
};

template <typename S>
void squared_norms_of(const SquaredNormsParams<S>& p) {
  using A = accumulate_t<S>;
  const int64_t blocks = (p.count + kBlock - 1) / kBlock;
#pragma omp parallel for schedule(static) num_threads(p.num_threads) if (p.count * p.taps > kSerial)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t begin = block * kBlock, end = std::min(begin + kBlock, p.count);
    if (p.taps == 9) {
      for (int64_t i = begin; i < end; ++i) {
        A total = 0;
        for (int k = 0; k < 9; ++k) {
          const A w = widen(p.weight[9 * i + k]);
          total += w * w;
        }
        p.norms[i] = total;
      }
      continue;
    }
    for (int64_t i = begin; i < end; ++i) {
      A total = 0;
      for (int64_t k = 0; k < p.taps; ++k) {
        const A w = widen(p.weight[i * p.taps + k]);
        total += w * w;
      }
      p.norms[i] = total;
    }
  }
}

}  // namespace

void squared_norms(const SquaredNormsParams<float>& p) { squared_norms_of(p); }
void squared_norms(const SquaredNormsParams<double>& p) { squared_norms_of(p); }
void squared_norms(const SquaredNormsParams<Half>& p) { squared_norms_of(p); }
void squared_norms(const SquaredNormsParams<BFloat16>& p) { squared_norms_of(p); }

void weight_planes(const WeightPlanesParams& p) {
  const int64_t blocks = (p.count + kBlock - 1) / kBlock;
#pragma omp parallel for schedule(static) num_threads(p.num_threads) if (9 * p.count > kSerial)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t begin = block * kBlock, n = std::min(kBlock, p.count - begin);
    float w[9][kBlock], g[4][3][kBlock];
    for (int64_t i = 0; i < n; ++i)
      for (int k = 0; k < 9; ++k) w[k][i] = p.from[9 * (begin + i) + k];
    if (!p.winograd) {
      for (int k = 0; k < 9; ++k) std::copy(w[k], w[k] + n, p.to + k * p.count + begin);
      continue;
    }
    for (int v = 0; v < 3; ++v) {
      for (int64_t i = 0; i < n; ++i) {
        const float ends = 0.5f * (w[v][i] + w[6 + v][i]), middle = 0.5f * w[3 + v][i];
        g[0][v][i] = w[v][i];
        g[1][v][i] = ends + middle;
        g[2][v][i] = ends - middle;
        g[3][v][i] = w[6 + v][i];
      }
    }
    for (int a = 0; a < 4; ++a) {
      float* to = p.to + 4 * a * p.count + begin;
      for (int64_t i = 0; i < n; ++i) {
        const float ends = 0.5f * (g[a][0][i] + g[a][2][i]), middle = 0.5f * g[a][1][i];
        to[i] = g[a][0][i];
        to[p.count + i] = ends + middle;
        to[2 * p.count + i] = ends - middle;
        to[3 * p.count + i] = g[a][2][i];
      }
    }
  }
}

void weight_planes_adjoint(const WeightPlanesParams& p) {
  const int64_t blocks = (p.count + kBlock - 1) / kBlock;
#pragma omp parallel for schedule(static) num_threads(p.num_threads) if (9 * p.count > kSerial)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t begin = block * kBlock, n = std::min(kBlock, p.count - begin);
    float w[9][kBlock], g[4][3][kBlock];
    if (p.winograd) {
      for (int a = 0; a < 4; ++a) {
        const float* from = p.from + 4 * a * p.count + begin;
        for (int64_t i = 0; i < n; ++i) {
          const float second = from[p.count + i], third = from[2 * p.count + i], half = 0.5f * (second + third);
          g[a][0][i] = from[i] + half;
          g[a][1][i] = 0.5f * (second - third);
          g[a][2][i] = half + from[3 * p.count + i];
        }
      }
      for (int v = 0; v < 3; ++v) {
        for (int64_t i = 0; i < n; ++i) {
          const float half = 0.5f * (g[1][v][i] + g[2][v][i]);
          w[v][i] = g[0][v][i] + half;
          w[3 + v][i] = 0.5f * (g[1][v][i] - g[2][v][i]);
          w[6 + v][i] = half + g[3][v][i];
        }
      }
    } else {
      for (int k = 0; k < 9; ++k) std::copy_n(p.from + k * p.count + begin, n, w[k]);
    }
    for (int64_t i = 0; i < n; ++i)
      for (int k = 0; k < 9; ++k) p.to[9 * (begin + i) + k] = w[k][i];
  }
}

void winograd_input(const WinogradInputParams& p) {
  const PlaneImage& im = p.image;
  const int64_t tiles = (im.width + 1) / 2, lines = p.chunk.samples * p.chunk.rows, n = columns_of(p.chunk, tiles);
  const int64_t padded = 2 * tiles + 2, tasks = im.channels * lines;
#pragma omp parallel num_threads(p.num_threads) if (tasks * im.width > kSerial)
  {
    // Four rows with a column of zeros before and up to two after; then a row of the vertical transform.
    Scratch<float> rows(4 * padded), t(padded);
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
      const int64_t channel = task / lines;
      const Line line(p.chunk, task % lines, tiles);
      const int64_t plane_in = line.sample * im.channels + channel;
      const float scale = p.style ? p.style[plane_in] : 1.0f;
      const float* x = p.x + plane_in * im.height * im.width;
      for (int j = 0; j < 4; ++j) {
        const int64_t y = 2 * line.row - 1 + j;
        float* row = rows.data() + j * padded;
        if (y < 0 || y >= im.height) {
          std::fill(row, row + padded, 0.0f);
          continue;
        }
        row[0] = 0;
        for (int64_t i = 0; i < im.width; ++i) row[1 + i] = scale * x[y * im.width + i];
        std::fill(row + 1 + im.width, row + padded, 0.0f);
      }
      const float *r0 = rows.data(), *r1 = r0 + padded, *r2 = r1 + padded, *r3 = r2 + padded;
      for (int a = 0; a < 4; ++a) {
        const float *first = a == 0 ? r0 : a == 2 ? r2 : r1, *second = a == 2 ? r1 : a == 3 ? r3 : r2;
        const float sign = a == 1 ? 1.0f : -1.0f;
        for (int64_t i = 0; i < padded; ++i) t[i] = first[i] + sign * second[i];
        float* to = p.planes + (4 * turned(a, p.flip) * im.channels + channel) * n + line.first;
        const int64_t plane = im.channels * n;
        float* __restrict v0 = to + turned(0, p.flip) * plane, * __restrict v1 = to + plane, * __restrict v2 = to + 2 * plane, * __restrict v3 = to + turned(3, p.flip) * plane;
        const float* __restrict s = t.data();
        for (int64_t i = 0; i < tiles; ++i) {
          const float d0 = s[2 * i], d1 = s[2 * i + 1], d2 = s[2 * i + 2], d3 = s[2 * i + 3];
          v0[i] = d0 - d2;
          v1[i] = d1 + d2;
          v2[i] = d2 - d1;
          v3[i] = d1 - d3;
        }
      }
    }
  }
}

void winograd_output(const WinogradOutputParams& p) {
  const PlaneImage& im = p.image;
  const int64_t tiles = (im.width + 1) / 2, lines = p.chunk.samples * p.chunk.rows, n = columns_of(p.chunk, tiles);
  const int64_t tasks = im.channels * lines, plane = im.channels * n;
#pragma omp parallel num_threads(p.num_threads) if (tasks * im.width > kSerial)
  {
    Scratch<float> sums(4 * tiles), row(2 * tiles), scratch(2 * tiles);
    LaneTerms<float> lane(im.width);
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
      const int64_t channel = task / lines;
      const Line line(p.chunk, task % lines, tiles);
      const float* m = p.planes + channel * n + line.first;
      for (int half = 0; half < 2 && 2 * line.row + half < im.height; ++half) {
        for (int b = 0; b < 4; ++b) {
          const int column = turned(b, p.flip);
          const float *m0 = m + (4 * turned(0, p.flip) + column) * plane, *m1 = m + (4 + column) * plane,
                      *m2 = m + (8 + column) * plane, *m3 = m + (4 * turned(3, p.flip) + column) * plane;
          float* __restrict s = sums.data() + b * tiles;
          if (half == 0)
            for (int64_t i = 0; i < tiles; ++i) s[i] = m0[i] + m1[i] + m2[i];
          else
            for (int64_t i = 0; i < tiles; ++i) s[i] = m1[i] - m2[i] - m3[i];
        }
        const float *s0 = sums.data(), *s1 = s0 + tiles, *s2 = s1 + tiles, *s3 = s2 + tiles;
        float* __restrict to = row.data();
        for (int64_t i = 0; i < tiles; ++i) {
          to[2 * i] = s0[i] + s1[i] + s2[i];
          to[2 * i + 1] = s1[i] - s2[i] - s3[i];
        }
        finish_line(p.shape, p.terms, lane, line.sample * im.channels + channel, 2 * line.row + half, im.width,
                    row.data(), scratch.data(), p.y, p.f);
      }
    }
  }
}

void winograd_output_adjoint(const WinogradOutputAdjointParams& p) {
  const PlaneImage& im = p.image;
  const int64_t tiles = (im.width + 1) / 2, lines = p.chunk.samples * p.chunk.rows, n = columns_of(p.chunk, tiles);
  const int64_t tasks = im.channels * lines, plane = im.channels * n;
#pragma omp parallel num_threads(p.num_threads) if (tasks * im.width > kSerial)
  {
    Scratch<float> rows(4 * tiles), t(2 * tiles);
    rows[2 * tiles - 1] = rows[4 * tiles - 1] = 0;  // beyond an odd width
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
      const int64_t channel = task / lines;
      const Line line(p.chunk, task % lines, tiles);
      const float* g = p.grad_f + (line.sample * im.channels + channel) * im.height * im.width;
      for (int j = 0; j < 2; ++j) {
        const int64_t y = 2 * line.row + j;
        float* row = rows.data() + 2 * j * tiles;
        if (y < im.height)
          std::copy_n(g + y * im.width, im.width, row);
        else
          std::fill_n(row, im.width, 0.0f);
      }
      const float *r0 = rows.data(), *r1 = r0 + 2 * tiles;
      for (int a = 0; a < 4; ++a) {
        const float upper = a == 3 ? 0.0f : 1.0f, lower = a == 0 ? 0.0f : a == 1 ? 1.0f : -1.0f;
        for (int64_t i = 0; i < 2 * tiles; ++i) t[i] = upper * r0[i] + lower * r1[i];
        float* to = p.planes + 4 * a * plane + channel * n + line.first;
        float* __restrict v0 = to, * __restrict v1 = to + plane, * __restrict v2 = to + 2 * plane, * __restrict v3 = to + 3 * plane;
        const float* __restrict s = t.data();
        for (int64_t i = 0; i < tiles; ++i) {
          const float left = s[2 * i], right = s[2 * i + 1];
          v0[i] = left;
          v1[i] = left + right;
          v2[i] = left - right;
          v3[i] = -right;
        }
      }
    }
  }
}

void gather_taps(const GatherTapsParams& p) {
  const PlaneImage& im = p.image;
  const int64_t lines = p.chunk.samples * p.chunk.rows, n = columns_of(p.chunk, p.grid_width);
  const int64_t tasks = im.channels * lines;
#pragma omp parallel for schedule(static) num_threads(p.num_threads) if (tasks * p.grid_width * p.taps > kSerial)
  for (int64_t task = 0; task < tasks; ++task) {
    const int64_t channel = task / lines;
    const Line line(p.chunk, task % lines, p.grid_width);
    const float scale = p.style ? p.style[line.sample * im.channels + channel] : 1.0f;
    const float* x = p.x + (line.sample * im.channels + channel) * im.height * im.width;
    for (int u = 0; u < p.taps; ++u) {
      const int64_t y = p.stride * line.row + u - p.pad;
      for (int v = 0; v < p.taps; ++v) {
        float* __restrict to =
            p.columns + ((u * p.taps + v) * p.tap_stride + channel * p.channel_stride) * n + line.first;
        if (y < 0 || y >= im.height) {
          std::fill_n(to, p.grid_width, 0.0f);
          continue;
        }
        const float* from = x + y * im.width + v - p.pad;
        // The columns whose place in the image lies inside.
        const int64_t before = p.pad - v > 0 ? (p.pad - v + p.stride - 1) / p.stride : 0;
        const int64_t begin = std::min(before, p.grid_width);
        const int64_t end = std::max(begin, std::min(p.grid_width, (im.width - v + p.pad + p.stride - 1) / p.stride));
        std::fill_n(to, begin, 0.0f);
        if (p.stride == 1)
          for (int64_t i = begin; i < end; ++i) to[i] = scale * from[i];
        else
          for (int64_t i = begin; i < end; ++i) to[i] = scale * from[p.stride * i];
        std::fill(to + end, to + p.grid_width, 0.0f);
      }
    }
  }
}

void scatter_taps(const ScatterTapsParams& p) {
  const PlaneImage& im = p.image;
  const int64_t lines = p.last - p.first, n = columns_of(p.chunk, p.grid_width);
  const int64_t tasks = im.channels * p.chunk.samples * lines;
#pragma omp parallel num_threads(p.num_threads) if (tasks * im.width > kSerial)
  {
    // Sums at the image's columns of each remainder by the stride, then woven together.
    const int64_t length = im.width / p.stride + 1;
    Scratch<float> sums(p.stride * length);
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
      const int64_t channel = task / (p.chunk.samples * lines), sample = task / lines % p.chunk.samples,
                    row = p.first + task % lines;
      std::fill_n(sums.data(), p.stride * length, 0.0f);
      for (int u = 0; u < p.taps; ++u) {
        const int64_t place = row + p.pad - u, y = place / p.stride - p.chunk.first_row;
        if (place < 0 || place % p.stride || y < 0 || y >= p.chunk.rows) continue;
        for (int v = 0; v < p.taps; ++v) {
          const float* from = p.columns + ((u * p.taps + v) * p.tap_stride + channel * p.channel_stride) * n +
                              (sample * p.chunk.rows + y) * p.grid_width;
          // Column i of the grid goes to stride i + v - pad of the image.
          const int64_t shift = v - p.pad + (v < p.pad ? p.stride * p.pad : 0), remainder = shift % p.stride;
          const int64_t offset = shift / p.stride - (v < p.pad ? p.pad : 0);
          const int64_t count = (im.width - remainder + p.stride - 1) / p.stride;
          const int64_t begin = std::max<int64_t>(0, -offset), end = std::min(p.grid_width, count - offset);
          float* __restrict to = sums.data() + remainder * length + offset;
          for (int64_t i = begin; i < end; ++i) to[i] += from[i];
        }
      }
      float* __restrict x =
          p.x + (((p.chunk.first_sample + sample) * im.channels + channel) * im.height + row) * im.width;
      if (p.stride == 1) {
        std::copy_n(sums.data(), im.width, x);
      } else {
        const float *even = sums.data(), *odd = even + length;
        const int64_t pairs = im.width / 2;
        for (int64_t i = 0; i < pairs; ++i) {
          x[2 * i] = even[i];
          x[2 * i + 1] = odd[i];
        }
        if (im.width % 2) x[im.width - 1] = even[pairs];
      }
    }
  }
}

}  // namespace GARFAST_ISA
}  // namespace garfast

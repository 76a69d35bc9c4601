// The kernel behind modulated_conv2d_mma_*.cu.
//
// A block makes a tile of positions x channels of one sample: positions are a grid of kRows x kColumns; 16 of them in a
// row, or across rows, are the rows of one matrix product A (positions x K) times B (channels x K, transposed); K runs
// over the taps and, in chunks of 64 bytes, the input channels. Per chunk the block keeps in shared memory
//   - x at the positions and their neighbours, read once for all taps, fetched to registers a chunk ahead, and
//   multiplied
//     by the style (rounded to S, as if s x had been stored) on its way into shared memory;
//   - the weights of a group of taps, by asynchronous copies a group ahead.
// Both have rows of 64 bytes whose four 16-byte segments are permuted by (row / 2) % 4, with the column for the row
// of a pixel, so that eight neighbouring rows lie in eight different bank groups.
//
// Up-sampling by 2: with u[2i + a, 2j + b] += w[a, b] x[i, j] an output of even or odd row and column takes 4, 2, 2 or
// 1 of the nine taps. The block holds all four of these phases of its positions, so that a chunk of x serves each tap
// once and no product with an inserted zero is computed. Positions start one before the tile and end one after it: the
// blur needs that margin of u. u stays in shared memory, in float. Grids of 18 columns make tiles of 32, which divide
// the usual sizes.
//
// The accumulators go through shared memory, so that a thread ends with 4 neighbouring channels of a pixel and the
// terms of the epilogue, the rounding and the store run along the layout of y.
//
// Before compute capability 8.0 there are no such instructions: the kernel compiles to nothing and must not be
// launched.
#pragma once

#include <type_traits>

#include "garfast/cuda_launch.h"
#include "garfast/mma.h"
#include "garfast/modulated_conv2d_mma.h"

namespace garfast {
namespace cuda {
namespace conv_mma {

using baseline::activate;
using baseline::channel_scale;
using baseline::channel_shift;
using baseline::narrow;
using baseline::pixel_scale;
using baseline::pixel_shift;
using baseline::widen;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kChunkBytes = 64;  // of input channels
constexpr int kSegments = kChunkBytes / 16;

template <int kKernel_, int kUp_, int kRows_, int kColumns_, int kChannels_, int kWarpsDown_, int kBlocks_>
struct Tile {
  static constexpr int kKernel = kKernel_, kUp = kUp_, kRows = kRows_, kColumns = kColumns_;
  static constexpr int kChannels = kChannels_;
  static constexpr int kWarpsDown = kWarpsDown_, kWarpsAcross = kWarps / kWarpsDown;  // along positions, channels
  static constexpr int kBlocks = kBlocks_;                                            // that share a multiprocessor
  static constexpr int kPhases = kUp * kUp, kTaps = kKernel * kKernel;
  static constexpr int kGroup = kUp == 2 ? kTaps : kKernel, kGroups = kTaps / kGroup;  // taps in shared memory at once
  static constexpr int kHalo = kUp == 2 ? 1 : kKernel - 1;
  static constexpr int kXColumns = kColumns + kHalo, kXPixels = (kRows + kHalo) * kXColumns;
  static constexpr int kXBytes = kXPixels * kChunkBytes;
  static constexpr int kXLoads = (kXPixels * kSegments + kThreads - 1) / kThreads;
  static constexpr int kWeightBytes = kGroup * kChannels * kChunkBytes;
  static constexpr int kWeightLoads = (kGroup * kChannels * kSegments + kThreads - 1) / kThreads;
  static constexpr int kPositions = kRows * kColumns, kFragmentRows = (kPositions + 15) / 16 / kWarpsDown;
  static constexpr int kFragmentColumns = kChannels / 8 / kWarpsAcross;
  static constexpr int kOutRows = kUp == 2 ? 2 * (kRows - 2) : kRows;
  static constexpr int kOutColumns = kUp == 2 ? 2 * (kColumns - 2) : kColumns;
  static constexpr int kResultStride = kUp == 2 ? kChannels : kChannels + 8;  // floats between pixels
  static constexpr int kResultBytes = kPositions * kPhases * kResultStride * 4;
  static constexpr int kLoopBytes = 2 * (kXBytes + kWeightBytes);
  static constexpr int kSharedBytes = kLoopBytes > kResultBytes ? kLoopBytes : kResultBytes;
  static_assert(kWarps % kWarpsDown == 0 && (kPositions + 15) / 16 % kWarpsDown == 0 && kFragmentColumns % 2 == 0);
  static_assert(kUp == 1 || (kKernel == 3 && kChannels == 32 && kColumns % 2 == 0));
};

// How many tiles cover the output; a block's index counts channels fastest, so that neighbours share x.
struct Grid {
  int channels, columns, rows;
};

// The first `count` of 4 numbers to elements `step` apart; packed: to 4 neighbours, aligned to their size.
template <typename S>
__device__ __forceinline__ void store_four(const float* v, S* to, int step, int count, bool packed) {
  if (packed) {
    if constexpr (sizeof(S) == 4)
      *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
    else
      *reinterpret_cast<uint2*>(to) = make_uint2(pack<S>(v[0], v[1]), pack<S>(v[2], v[3]));
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (i < count) to[i * step] = narrow<S>(v[i]);
}

// 16 bytes of x times the style of their channels, as the products take them; `style` null: unscaled.
template <typename S>
__device__ uint4 modulated(uint4 x, const float* style) {
  constexpr int kCount = 16 / sizeof(S);
  uint32_t words[4] = {x.x, x.y, x.z, x.w};
  float s[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) s[i] = 1.0f;
  if (style) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(style + i);
      s[i] = four.x, s[i + 1] = four.y, s[i + 2] = four.z, s[i + 3] = four.w;
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(S) == 4) {
      words[i] = to_tf32(baseline::bits_float(words[i]) * s[i]);
    } else {
      const float low = widen(S{uint16_t(words[i] & 0xffffu)}), high = widen(S{uint16_t(words[i] >> 16)});
      words[i] = pack<S>(low * s[2 * i], high * s[2 * i + 1]);
    }
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// 4 neighbouring channels of a sample with what the epilogue needs of each: their factor and addend.
struct Channels {
  int first, count;
  float scale[4], shift[4];
};

template <typename S>
__device__ Channels channels_at(const ModulatedConvMmaParams<S>& p, int64_t sample, int first) {
  Channels c{first, min(4, p.out_channels - first), {}, {}};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i >= c.count) break;
    c.scale[i] = channel_scale(p.terms, p.out_channels, sample, first + i);
    c.shift[i] = channel_shift(p.terms, first + i);
  }
  return c;
}

// The epilogue of 4 channels of one pixel.
template <typename S>
__device__ void finish(const ModulatedConvMmaParams<S>& p, int up, int64_t sample, int row, int column,
                       const Channels& channels, const float* sums) {
  const int height = up * p.height, width = up * p.width;
  if (row >= height || column >= width || channels.count <= 0) return;
  const EpilogueTerms<S>& t = p.terms;
  const int pixels = height * width, pixel = row * width + column, step = p.channels_last ? 1 : pixels;
  const int within = p.channels_last ? pixel * p.out_channels + channels.first : channels.first * pixels + pixel;
  const float scale = pixel_scale(t, sample, pixel), shift = pixel_shift(t, sample, pixel);
  const int64_t offset = sample * p.out_channels * pixels + within;
  float v[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i >= channels.count) break;
    float factor = scale * channels.scale[i], addend = shift + channels.shift[i];
    if (t.scale_map.data && t.scale_map.per_element)
      factor *= widen(t.scale_map.data[sample * t.scale_map.batch_stride + within + i * step]);
    if (t.shift_map.data && t.shift_map.per_element)
      addend += widen(t.shift_map.data[sample * t.shift_map.batch_stride + within + i * step]);
    v[i] = activate(sums[i] * factor + addend, t.alpha, t.gain, t.clamp);
  }
  const bool packed = p.channels_last && p.out_channels % 4 == 0;
  store_four(v, p.y + offset, step, channels.count, packed);
  if (p.f) store_four(sums, p.f + offset, step, channels.count, packed);
}

// Where channel `channel` of u at (row, column) lies in shared memory: quads of channels are permuted by column, so
// that the fragments' rows, which are every other column, lie in different banks.
template <typename T>
__device__ __forceinline__ int up_index(int row, int column, int channel) {
  const int quad = (channel / 4) ^ ((column / 2 % 4) * 2);
  return (row * 2 * T::kColumns + column) * T::kChannels + quad * 4 + channel % 4;
}

// Blurs u and finishes it: a thread makes 2 columns of 4 channels down some rows, keeping the last rows in registers.
template <typename S, typename T>
__device__ void blur(const ModulatedConvMmaParams<S>& p, const float* u, int64_t sample, int first_row,
                     int first_column, int first_channel) {
  constexpr int kQuads = T::kChannels / 4, kPairs = T::kOutColumns / 2, kParts = kThreads / (kQuads * kPairs);
  constexpr int kPartRows = T::kOutRows / kParts;
  static_assert(T::kOutRows % kParts == 0);
  float f[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) f[i] = p.filter[3 - i] * p.filter_gain;  // as correlation
  for (int item = int(threadIdx.x); item < kQuads * kPairs * kParts; item += kThreads) {
    const int quad = p.channels_last ? item % kQuads : item / kPairs % kQuads;
    const int pair = p.channels_last ? item / kQuads % kPairs : item % kPairs;
    const int top = item / (kQuads * kPairs) * kPartRows;
    const Channels channels = channels_at(p, sample, first_channel + 4 * quad);
    float past[3][2][4];  // the last three rows, blurred along the row
#pragma unroll
    for (int i = 0; i < 3 * 2 * 4; ++i) past[i / 8][i / 4 % 2][i % 4] = 0.0f;
#pragma unroll 1
    for (int r = 0; r < kPartRows + 3; ++r) {
      float now[2][4] = {};
#pragma unroll
      for (int c = 0; c < 5; ++c) {
        // Row and column 0 of u are those before the margin.
        const float4 four = *reinterpret_cast<const float4*>(u + up_index<T>(top + r + 1, 2 * pair + c + 1, 4 * quad));
        const float value[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (c < 4) now[0][i] += f[c] * value[i];
          if (c > 0) now[1][i] += f[c - 1] * value[i];
        }
      }
      float out[2][4];
#pragma unroll
      for (int k = 0; k < 2; ++k)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          out[k][i] = f[0] * past[0][k][i] + f[1] * past[1][k][i] + f[2] * past[2][k][i] + f[3] * now[k][i];
          past[0][k][i] = past[1][k][i];
          past[1][k][i] = past[2][k][i];
          past[2][k][i] = now[k][i];
        }
      if (r < 3) continue;
#pragma unroll
      for (int k = 0; k < 2; ++k)
        finish(p, 2, sample, first_row + top + r - 3, first_column + 2 * pair + k, channels, out[k]);
    }
  }
}

template <typename S, typename T>
__global__ void __launch_bounds__(kThreads, T::kBlocks) forward_kernel(ModulatedConvMmaParams<S> p, Grid grid) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  constexpr int kElements = 16 / sizeof(S), kChunk = kChunkBytes / sizeof(S);
  constexpr int kM = T::kFragmentRows, kN = T::kFragmentColumns;
  GARFAST_DYNAMIC_SHARED(char, shared);
  char* const x_tiles = shared;
  char* const weight_tiles = shared + 2 * T::kXBytes;

  const int thread = int(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int warp_down = warp % T::kWarpsDown, warp_across = warp / T::kWarpsDown;
  int block = int(blockIdx.x);
  const int first_channel = block % grid.channels * T::kChannels;
  block /= grid.channels;
  const int tile_column = block % grid.columns;
  block /= grid.columns;
  const int tile_row = block % grid.rows;
  const int64_t sample = block / grid.rows;

  // The pixel of x at the corner of the tile: for up = 2 one further out than the margin, whose even rows need it.
  constexpr int kBefore = T::kUp == 2 ? 2 : T::kKernel / 2;
  const int corner_row = tile_row * (T::kOutRows / T::kUp) - kBefore;
  const int corner_column = tile_column * (T::kOutColumns / T::kUp) - kBefore;
  const S* const x = p.x + sample * p.height * p.width * p.in_channels;
  const float* const style = p.style ? p.style + sample * p.in_channels : nullptr;

  // A thread fetches the same segment of every 64th pixel; -1: outside of x.
  const int segment = thread % kSegments;
  int x_offsets[T::kXLoads];
#pragma unroll
  for (int i = 0; i < T::kXLoads; ++i) {
    const int pixel = thread / kSegments + i * (kThreads / kSegments);
    const int row = corner_row + pixel / T::kXColumns, column = corner_column + pixel % T::kXColumns;
    const bool inside =
        pixel < T::kXPixels && unsigned(row) < unsigned(p.height) && unsigned(column) < unsigned(p.width);
    x_offsets[i] = inside ? (row * p.width + column) * p.in_channels + segment * kElements : -1;
  }
  uint4 held[T::kXLoads];
  const auto fetch_x = [&](int chunk) {
    const bool exists = chunk * kChunk + segment * kElements < p.in_channels;
#pragma unroll
    for (int i = 0; i < T::kXLoads; ++i) {
      held[i] = make_uint4(0, 0, 0, 0);
      if (exists && x_offsets[i] >= 0) held[i] = *reinterpret_cast<const uint4*>(x + x_offsets[i] + chunk * kChunk);
    }
  };
  const auto keep_x = [&](int chunk) {
    const int channel = chunk * kChunk + segment * kElements;
    const float* s = style && channel < p.in_channels ? style + channel : nullptr;
    char* const tile = x_tiles + chunk % 2 * T::kXBytes;
#pragma unroll
    for (int i = 0; i < T::kXLoads; ++i) {
      const int pixel = thread / kSegments + i * (kThreads / kSegments), column = pixel % T::kXColumns;
      if (pixel < T::kXPixels)
        *reinterpret_cast<uint4*>(tile + pixel * kChunkBytes + ((segment ^ (column / 2 % 4)) * 16)) =
            modulated<S>(held[i], s);
    }
  };
  // 64 rows of the weight tile, which are tap * kChannels + channel, at a time.
  constexpr int kTapsAtOnce = T::kChannels < 64 ? 64 / T::kChannels : 1,
                kPerTap = T::kChannels < 64 ? 1 : T::kChannels / 64;
  const int weight_channel = thread / kSegments % T::kChannels;
  const int weight_tap = kTapsAtOnce > 1 ? thread / kSegments / T::kChannels : 0;
  const auto copy_weights = [&](int step) {
    const int channel = step / T::kGroups * kChunk + segment * kElements, first_tap = step % T::kGroups * T::kGroup;
    const SharedAddress tile = shared_address(weight_tiles + step % 2 * T::kWeightBytes);
    const S* const from =
        p.weight + ((first_channel + weight_channel) * T::kTaps + first_tap) * p.in_channels + channel;
#pragma unroll
    for (int i = 0; i < T::kWeightLoads; ++i) {
      const int tap = i / kPerTap * kTapsAtOnce + weight_tap, out = weight_channel + i % kPerTap * 64;
      if (tap >= T::kGroup) break;
      const bool exists = first_channel + out < p.out_channels && channel < p.in_channels;
      const int offset = exists ? (i % kPerTap * 64 * T::kTaps + tap) * p.in_channels : 0;
      copy_async(tile + (tap * T::kChannels + out) * kChunkBytes + ((segment ^ (out / 2 % 4)) * 16),
                 exists ? from + offset : p.weight, exists);
    }
  };

  // Addresses of this lane's rows in the tiles, see load_matrices. kSegments / 2 products make a chunk; that of
  // `half` 1 has its segments' second bit flipped.
  int x_rows[kM][T::kHalo + 1];
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int d = 0; d <= T::kHalo; ++d) {
      int position = (warp_down * kM + m) * 16 + lane % 16;
      if constexpr (T::kPositions % 16 != 0) position = min(position, T::kPositions - 1);
      const int row = position / T::kColumns, column = position % T::kColumns + d;
      x_rows[m][d] = (row * T::kXColumns + column) * kChunkBytes + ((lane / 16) ^ (column / 2 % 4)) * 16;
    }
  const int weight_row = warp_across * kN * 8 + lane / 16 * 8 + lane % 8;
  const int weight_offset = weight_row * kChunkBytes + ((lane / 8 % 2) ^ (weight_row / 2 % 4)) * 16;

  float sums[T::kPhases][kM][kN][4] = {};
  const auto load_x = [&](uint32_t (&a)[kM][4], SharedAddress tile, int down, int across, int half) {
#pragma unroll
    for (int m = 0; m < kM; ++m)
      load_matrices(a[m], tile + ((x_rows[m][across] ^ (half * 32)) + down * T::kXColumns * kChunkBytes));
  };
  const auto add_tap = [&](float (&to)[kM][kN][4], const uint32_t (&a)[kM][4], SharedAddress tile, int tap, int half) {
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t b[4];
      load_matrices(b, tile + ((weight_offset ^ (half * 32)) + (tap * T::kChannels + n * 8) * kChunkBytes));
      if constexpr (sizeof(S) == 4) {
#pragma unroll
        for (int i = 0; i < 4; ++i) b[i] = to_tf32(baseline::bits_float(b[i]));
      }
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        multiply_add<S>(to[m][n], a[m], b);
        multiply_add<S>(to[m][n + 1], a[m], b + 2);
      }
    }
  };

  const int chunks = (p.in_channels + kChunk - 1) / kChunk, steps = chunks * T::kGroups;
  copy_weights(0);
  fetch_x(0);
  keep_x(0);
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    const int chunk = step / T::kGroups, group = step % T::kGroups;
    wait_for_copies();
    __syncthreads();  // this step's tiles are complete, and the last step's are free
    if (step + 1 < steps) copy_weights(step + 1);
    if (group == 0 && chunk + 1 < chunks) fetch_x(chunk + 1);
    const SharedAddress x_tile = shared_address(x_tiles + chunk % 2 * T::kXBytes);
    const SharedAddress weight_tile = shared_address(weight_tiles + step % 2 * T::kWeightBytes);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint32_t a[kM][4];
      if constexpr (T::kUp == 1) {
#pragma unroll
        for (int dx = 0; dx < T::kKernel; ++dx) {
          load_x(a, x_tile + group * T::kXColumns * kChunkBytes, 0, dx, half);
          add_tap(sums[0], a, weight_tile, dx, half);
        }
      } else {
        // Taps 0 and 1 take the pixel of the position, into its even and odd output; tap 2 the one before, into the
        // even.
#pragma unroll
        for (int dy = 0; dy < 2; ++dy)
#pragma unroll
          for (int dx = 0; dx < 2; ++dx) {
            load_x(a, x_tile, dy, dx, half);
#pragma unroll
            for (int ky = dy ? 0 : 2; ky < (dy ? 2 : 3); ++ky)
#pragma unroll
              for (int kx = dx ? 0 : 2; kx < (dx ? 2 : 3); ++kx)
                add_tap(sums[ky % 2 * 2 + kx % 2], a, weight_tile, ky * 3 + kx, half);
          }
      }
    }
    if (group == T::kGroups - 1 && chunk + 1 < chunks) keep_x(chunk + 1);
  }
  __syncthreads();

  float* const results = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int phase = 0; phase < T::kPhases; ++phase)
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int position = (warp_down * kM + m) * 16 + lane / 4 + 8 * i;
          if (position >= T::kPositions) continue;
          const int row = position / T::kColumns, column = position % T::kColumns;
          const int channel = (warp_across * kN + n) * 8 + lane % 4 * 2;
          const int index = T::kUp == 2 ? up_index<T>(2 * row + phase / 2, 2 * column + phase % 2, channel)
                                        : position * T::kResultStride + channel;
          *reinterpret_cast<float2*>(results + index) =
              make_float2(sums[phase][m][n][2 * i], sums[phase][m][n][2 * i + 1]);
        }
  __syncthreads();

  const int first_row = tile_row * T::kOutRows, first_column = tile_column * T::kOutColumns;
  if constexpr (T::kUp == 2) {
    blur<S, T>(p, results, sample, first_row, first_column, first_channel);
  } else {
    constexpr int kQuads = T::kChannels / 4, kPixels = T::kPositions;
    Channels channels{-1, 0, {}, {}};  // in channels_last the same for all of a thread's items
#pragma unroll 1
    for (int item = thread; item < kQuads * kPixels; item += kThreads) {
      const int quad = p.channels_last ? item % kQuads : item / kPixels;
      const int pixel = p.channels_last ? item / kQuads : item % kPixels;
      const int channel = first_channel + 4 * quad;
      if (channel != channels.first) channels = channels_at(p, sample, channel);
      const float4 four = *reinterpret_cast<const float4*>(results + pixel * T::kResultStride + 4 * quad);
      const float v[4] = {four.x, four.y, four.z, four.w};
      finish(p, 1, sample, first_row + pixel / T::kColumns, first_column + pixel % T::kColumns, channels, v);
    }
  }
#else
  __trap();  // rather than a result that nobody wrote
#endif
}

template <typename T, typename S>
void forward_tile(const ModulatedConvMmaParams<S>& p, cudaStream_t stream) {
  const auto tiles = [](int size, int tile) { return (size + tile - 1) / tile; };
  const Grid grid{tiles(p.out_channels, T::kChannels), tiles(T::kUp * p.width, T::kOutColumns),
                  tiles(T::kUp * p.height, T::kOutRows)};
  const int64_t blocks = p.batch * grid.rows * grid.columns * grid.channels;
  if (blocks > INT32_MAX) throw std::runtime_error("modulated_conv2d: too many tiles for one launch");
  if (blocks > 0)
    launch("modulated_conv2d", forward_kernel<S, T>, unsigned(blocks), kThreads, T::kSharedBytes, stream, p, grid);
}

template <typename S>
void forward(const ModulatedConvMmaParams<S>& p, MmaTile tile, cudaStream_t stream) {
  switch (tile) {
    case MmaTile::kSame3x3:
      return forward_tile<Tile<3, 1, 8, 16, 128, 4, 2>>(p, stream);
    case MmaTile::kSame3x3Narrow:
      return forward_tile<Tile<3, 1, 8, 16, 64, 4, 2>>(p, stream);
    case MmaTile::kSame1x1:
      return forward_tile<Tile<1, 1, 8, 16, 64, 4, 2>>(p, stream);
    case MmaTile::kUp:
      return forward_tile<Tile<3, 2, 7, 18, 32, 4, 2>>(p, stream);
    case MmaTile::kUpLarge:
      return forward_tile<Tile<3, 2, 14, 18, 32, 8, 1>>(p, stream);
  }
}

}  // namespace conv_mma
}  // namespace cuda
}  // namespace garfast

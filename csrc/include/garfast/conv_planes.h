// Convolutions as matrix products, float32: what happens before and after the product.
//
//   3x3 of many pixels    Winograd's F(2x2, 3x3): U = G w G', V = B' x B in tiles of 4x4 every 2 pixels, M = U V in
//   each of
//                         16 planes, 2x2 pixels A' M A: 4 multiplications a pixel instead of 9
//   3x3 of few pixels     columns: the nine shifted copies of x, multiplied by w as it lies in memory
//   transposed, stride 2  M = U x with U the nine taps of w as planes, then every tap to its place
//
// U [planes, outputs, inputs], V [planes, inputs, n], M [planes, outputs, n], where n counts the tiles or pixels of a
// chunk: some rows of some samples, so that V and M stay in cache. Each step has its adjoint here.
#pragma once

#include <cstdint>

#include "garfast/isa.h"
#include "garfast/noise_bias_act.h"

namespace garfast {

// Rows [first_row, first_row + rows) of tiles or pixels of samples [first_sample, first_sample + samples).
struct PlaneChunk {
  int64_t first_sample, samples, first_row, rows;
};

// An image [B, channels, height, width], contiguous.
struct PlaneImage {
  int64_t channels, height, width;
};

// q[i] = sum over `taps` of weight[i, tap]^2
template <typename S>
struct SquaredNormsParams {
  const S* weight;         // [count, taps]
  accumulate_t<S>* norms;  // [count] out
  int64_t count, taps;
  int num_threads;
};

// U of a weight [count, 9], plane by plane: Winograd's 16, or the 9 taps; or the adjoint, from U to weight.
struct WeightPlanesParams {
  const float* from;
  float* to;
  int64_t count;
  bool winograd;
  int num_threads;
};

// V = B' x B of x times the style, or of x.
struct WinogradInputParams {
  const float* x;
  const float* style;  // [B, channels], or null
  float* planes;       // [16, channels, n] out
  PlaneImage image;
  PlaneChunk chunk;
  bool flip;  // the planes in the order of the weight turned by 180 degrees
  int num_threads;
};

// f = A' M A and its epilogue.
struct WinogradOutputParams {
  const float* planes;  // [16, channels, n]
  float* f;             // or null: not wanted
  float* y;             // or null: no epilogue
  EpilogueShape shape;  // of y; its blocks are not used
  EpilogueTerms<float> terms;
  PlaneImage image;
  PlaneChunk chunk;
  bool flip;
  int num_threads;
};

// The adjoint of f = A' M A.
struct WinogradOutputAdjointParams {
  const float* grad_f;
  float* planes;  // [16, channels, n] out
  PlaneImage image;
  PlaneChunk chunk;
  int num_threads;
};

// columns[tap (u, v), channel, (sample, row, column)] = style x[sample, channel, stride row + u - pad, ...], 0 outside.
struct GatherTapsParams {
  const float* x;
  const float* style;  // [B, channels], or null
  float* columns;      // out
  PlaneImage image;
  PlaneChunk chunk;  // of the grid of columns; rows may lie outside
  int64_t grid_width;
  int64_t tap_stride, channel_stride;  // in rows of `columns`
  int taps, stride, pad;
  int num_threads;
};

// Its adjoint: x[sample, channel, p, q] = sum of the columns that were taken from there, for rows [first, last) of x.
struct ScatterTapsParams {
  const float* columns;
  float* x;  // out
  PlaneImage image;
  PlaneChunk chunk;
  int64_t grid_width;
  int64_t tap_stride, channel_stride;
  int taps, stride, pad;
  int64_t first, last;
  int num_threads;
};

GARFAST_DECLARE_CPU(squared_norms, SquaredNormsParams<float>)
GARFAST_DECLARE_CPU(squared_norms, SquaredNormsParams<double>)
GARFAST_DECLARE_CPU(squared_norms, SquaredNormsParams<Half>)
GARFAST_DECLARE_CPU(squared_norms, SquaredNormsParams<BFloat16>)
GARFAST_DECLARE_CPU(weight_planes, WeightPlanesParams)
GARFAST_DECLARE_CPU(weight_planes_adjoint, WeightPlanesParams)
GARFAST_DECLARE_CPU(winograd_input, WinogradInputParams)
GARFAST_DECLARE_CPU(winograd_output, WinogradOutputParams)
GARFAST_DECLARE_CPU(winograd_output_adjoint, WinogradOutputAdjointParams)
GARFAST_DECLARE_CPU(gather_taps, GatherTapsParams)
GARFAST_DECLARE_CPU(scatter_taps, ScatterTapsParams)

}  // namespace garfast

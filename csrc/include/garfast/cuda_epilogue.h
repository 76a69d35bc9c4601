// The terms of the epilogue on the device (see noise_bias_act.h).
#pragma once

#include "garfast/cuda_pack.h"
#include "garfast/noise_bias_act.h"

namespace garfast {
namespace cuda {

// V elements in accesses of 16 bytes where kPacked says that their address allows it.
template <int V, bool kPacked, typename T, typename A>
__device__ void load_wide(const T* from, A* to) {
  constexpr int kMost = 16 / int(sizeof(T)), kStep = V < kMost ? V : kMost;
#pragma unroll
  for (int i = 0; i < V; i += kStep) load_pack<kStep, kPacked>(from + i, to + i);
}

// The terms of V lanes, without the per-element maps. One at a time they would take more accesses than x and y.
template <int V, bool kPacked, typename S, typename A>
__device__ void lane_terms(const EpilogueShape& s, const EpilogueTerms<S>& t, int64_t sample, int64_t lane, A* scale,
                           A* shift) {
#pragma unroll
  for (int i = 0; i < V; ++i) scale[i] = A(1), shift[i] = A(0);
  if (s.channels_last) {
    if (t.scale_channel) load_wide<V, kPacked>(t.scale_channel + sample * s.channels + lane, scale);
    if (t.bias) load_wide<V, kPacked>(t.bias + lane, shift);
    return;
  }
  const auto at = [&](const Map<S>& map) { return map.data + sample * map.batch_stride + lane; };
  if (t.scale_map.data && !t.scale_map.per_element) load_wide<V, kPacked>(at(t.scale_map), scale);
  if (t.shift_map.data && !t.shift_map.per_element) load_wide<V, kPacked>(at(t.shift_map), shift);
  if (t.noise.data) {
    A noise[V];
    load_wide<V, kPacked>(at(t.noise), noise);
    const A strength = t.strength ? *t.strength : A(1);
#pragma unroll
    for (int i = 0; i < V; ++i) shift[i] += strength * noise[i];
  }
}

template <typename S>
__device__ void row_terms(const EpilogueShape& s, const EpilogueTerms<S>& t, int64_t sample, int64_t row,
                          accumulate_t<S>* scale, accumulate_t<S>* shift) {
  *scale =
      s.channels_last ? baseline::pixel_scale(t, sample, row) : baseline::channel_scale(t, s.channels, sample, row);
  *shift = s.channels_last ? baseline::pixel_shift(t, sample, row) : baseline::channel_shift(t, row);
}

template <typename S>
GARFAST_HD bool per_element(const Map<S>& map) {
  return map.data && map.per_element;
}

// Whether packs of `bytes` of every map, and 16 bytes of what belongs to channels, can be read at once.
template <typename S>
bool terms_aligned(const EpilogueTerms<S>& t, size_t bytes) {
  const auto map_aligned = [bytes](const Map<S>& map) {
    return is_aligned(map.data, bytes) && map.batch_stride * sizeof(S) % bytes == 0;
  };
  return map_aligned(t.scale_map) && map_aligned(t.shift_map) && map_aligned(t.noise) &&
         is_aligned(t.scale_channel, 16) && is_aligned(t.bias, 16);
}

// Everything that V neighbouring elements of a row are multiplied by and what is added to them; `terms_aligned`.
template <int V, typename S, typename A>
__device__ void element_terms(const EpilogueShape& s, const EpilogueTerms<S>& t, int64_t sample, int64_t row,
                              int64_t lane, A* scale, A* shift) {
  A row_scale, row_shift, map[V];
  lane_terms<V, true>(s, t, sample, lane, scale, shift);
  row_terms(s, t, sample, row, &row_scale, &row_shift);
  const int64_t within = row * s.lanes + lane;
  if (per_element(t.scale_map)) {
    load_pack<V, true>(t.scale_map.data + sample * t.scale_map.batch_stride + within, map);
#pragma unroll
    for (int k = 0; k < V; ++k) scale[k] *= map[k];
  }
  if (per_element(t.shift_map)) {
    load_pack<V, true>(t.shift_map.data + sample * t.shift_map.batch_stride + within, map);
#pragma unroll
    for (int k = 0; k < V; ++k) shift[k] += map[k];
  }
#pragma unroll
  for (int k = 0; k < V; ++k) {
    scale[k] *= row_scale;
    shift[k] += row_shift;
  }
}

}  // namespace cuda
}  // namespace garfast

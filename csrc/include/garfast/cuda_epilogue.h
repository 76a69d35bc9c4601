// The terms of the epilogue on the device (see noise_bias_act.h).
#pragma once

#include "garfast/cuda_pack.h"
#include "garfast/noise_bias_act.h"

namespace garfast {
namespace cuda {

// The terms of V lanes, without the per-element maps.
template <int V, typename S, typename A>
__device__ void lane_terms(const EpilogueShape& s, const EpilogueTerms<S>& t, int64_t sample, int64_t lane, A* scale,
                           A* shift) {
#pragma unroll
  for (int i = 0; i < V; ++i) {
    scale[i] = s.channels_last ? baseline::channel_scale(t, s.channels, sample, lane + i)
                               : baseline::pixel_scale(t, sample, lane + i);
    shift[i] = s.channels_last ? baseline::channel_shift(t, lane + i) : baseline::pixel_shift(t, sample, lane + i);
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

template <typename S>
bool maps_aligned(const EpilogueTerms<S>& t, size_t bytes) {
  return (!per_element(t.scale_map) || is_aligned(t.scale_map.data, bytes)) &&
         (!per_element(t.shift_map) || is_aligned(t.shift_map.data, bytes));
}

// Everything that V neighbouring elements of a row are multiplied by and what is added to them.
template <int V, typename S, typename A>
__device__ void element_terms(const EpilogueShape& s, const EpilogueTerms<S>& t, int64_t sample, int64_t row,
                              int64_t lane, A* scale, A* shift) {
  A row_scale, row_shift, map[V];
  lane_terms<V>(s, t, sample, lane, scale, shift);
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

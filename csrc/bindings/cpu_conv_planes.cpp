#include <pybind11/stl.h>

#include <tuple>

#include "cpu_bindings.h"
#include "garfast/conv_planes.h"
#include "noise_bias_act_params.h"

namespace garfast {
namespace conv_planes_binding {

// channels, height, width
using ImageArgs = std::tuple<int64_t, int64_t, int64_t>;
// first_sample, samples, first_row, rows
using ChunkArgs = std::tuple<int64_t, int64_t, int64_t, int64_t>;
// grid_width, tap_stride, channel_stride, taps, stride, pad
using TapArgs = std::tuple<int64_t, int64_t, int64_t, int, int, int>;

PlaneImage image(const ImageArgs& a) { return {std::get<0>(a), std::get<1>(a), std::get<2>(a)}; }
PlaneChunk chunk(const ChunkArgs& a) { return {std::get<0>(a), std::get<1>(a), std::get<2>(a), std::get<3>(a)}; }

template <typename S>
void squared_norms(int threads, Address weight, Address norms, int64_t count, int64_t taps) {
  const SquaredNormsParams<S> p{in<S>(weight), out<accumulate_t<S>>(norms), count, taps, threads};
  GARFAST_CALL_CPU(squared_norms, p);
}

void weight_planes(int threads, Address from, Address to, int64_t count, bool winograd, bool adjoint) {
  const WeightPlanesParams p{in<float>(from), out<float>(to), count, winograd, threads};
  if (adjoint)
    GARFAST_CALL_CPU(weight_planes_adjoint, p);
  else
    GARFAST_CALL_CPU(weight_planes, p);
}

void winograd_input(int threads, Address x, Address style, Address planes, const ImageArgs& size, const ChunkArgs& part,
                    bool flip) {
  const WinogradInputParams p{in<float>(x), in<float>(style), out<float>(planes), image(size), chunk(part),
                              flip,         threads};
  GARFAST_CALL_CPU(winograd_input, p);
}

void winograd_output(int threads, Address planes, Address f, Address y, const ShapeArgs& shape, const TermArgs& terms,
                     const ImageArgs& size, const ChunkArgs& part, bool flip) {
  const WinogradOutputParams p{
      in<float>(planes), out<float>(f), out<float>(y), epilogue_shape(shape), epilogue_terms<float>(terms), image(size),
      chunk(part),       flip,          threads};
  GARFAST_CALL_CPU(winograd_output, p);
}

void winograd_output_adjoint(int threads, Address grad_f, Address planes, const ImageArgs& size,
                             const ChunkArgs& part) {
  const WinogradOutputAdjointParams p{in<float>(grad_f), out<float>(planes), image(size), chunk(part), threads};
  GARFAST_CALL_CPU(winograd_output_adjoint, p);
}

void gather_taps(int threads, Address x, Address style, Address columns, const ImageArgs& size, const ChunkArgs& part,
                 const TapArgs& t) {
  const auto [grid_width, tap_stride, channel_stride, taps, stride, pad] = t;
  const GatherTapsParams p{in<float>(x), in<float>(style), out<float>(columns), image(size), chunk(part),
                           grid_width,   tap_stride,       channel_stride,      taps,        stride,
                           pad,          threads};
  GARFAST_CALL_CPU(gather_taps, p);
}

void scatter_taps(int threads, Address columns, Address x, const ImageArgs& size, const ChunkArgs& part,
                  const TapArgs& t, int64_t first, int64_t last) {
  const auto [grid_width, tap_stride, channel_stride, taps, stride, pad] = t;
  const ScatterTapsParams p{in<float>(columns),
                            out<float>(x),
                            image(size),
                            chunk(part),
                            grid_width,
                            tap_stride,
                            channel_stride,
                            taps,
                            stride,
                            pad,
                            first,
                            last,
                            threads};
  GARFAST_CALL_CPU(scatter_taps, p);
}

}  // namespace conv_planes_binding

void bind_conv_planes(py::module_& m) {
  using namespace conv_planes_binding;
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("squared_norms_float32", &squared_norms<float>, nogil);
  m.def("squared_norms_float64", &squared_norms<double>, nogil);
  m.def("squared_norms_float16", &squared_norms<Half>, nogil);
  m.def("squared_norms_bfloat16", &squared_norms<BFloat16>, nogil);
  m.def("weight_planes", &weight_planes, nogil);
  m.def("winograd_input", &winograd_input, nogil);
  m.def("winograd_output", &winograd_output, nogil);
  m.def("winograd_output_adjoint", &winograd_output_adjoint, nogil);
  m.def("gather_taps", &gather_taps, nogil);
  m.def("scatter_taps", &scatter_taps, nogil);
}

}  // namespace garfast

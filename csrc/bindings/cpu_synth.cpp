#include "cpu_bindings.h"
#include "garfast/synth.h"
#include "pointers.h"

namespace garfast {
namespace {

using P = std::uintptr_t;

void blend(P mean, P basis, P step, P weights, P result, int64_t num_rows, int64_t size, int64_t row_size) {
  const SynthBlendParams p{
      in<float>(mean), in<int16_t>(basis), in<float>(step), in<float>(weights), out<float>(result), num_rows, size,
      row_size};
  GARFAST_CALL_CPU(synth_blend, p);
}

void visibility(P positions, P triangles, P camera, P ids, P barycentrics, P depth, int64_t num_vertices,
                int64_t num_triangles, int64_t height, int64_t width, bool orthographic, bool cull, bool clear) {
  const SynthVisibilityParams p{in<float>(positions),
                                in<int32_t>(triangles),
                                in<float>(camera),
                                out<int32_t>(ids),
                                out<float>(barycentrics),
                                out<float>(depth),
                                num_vertices,
                                num_triangles,
                                height,
                                width,
                                orthographic,
                                cull,
                                clear};
  GARFAST_CALL_CPU(synth_visibility, p);
}

void shade(P positions, P normals, P attributes, P triangles, P materials, P ids, P barycentrics, P depth, P parameters,
           P ambient, P shadow, P noise, P frame, P frame_depth, int64_t height, int64_t width, int64_t shadow_size) {
  const SynthShadeParams p{in<float>(positions),
                           in<float>(normals),
                           in<float>(attributes),
                           in<int32_t>(triangles),
                           in<uint8_t>(materials),
                           in<int32_t>(ids),
                           in<float>(barycentrics),
                           in<float>(depth),
                           in<float>(parameters),
                           in<float>(ambient),
                           in<float>(shadow),
                           in<int8_t>(noise),
                           out<float>(frame),
                           out<float>(frame_depth),
                           height,
                           width,
                           shadow_size};
  GARFAST_CALL_CPU(synth_shade, p);
}

}  // namespace

void bind_synth(py::module_& m) {
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("synth_blend", &blend, nogil);
  m.def("synth_visibility", &visibility, nogil);
  m.def("synth_shade", &shade, nogil);
  py::list names;
#define GARFAST_SYNTH_NAME(name) names.append(#name);
  GARFAST_SYNTH_PARAMETERS(GARFAST_SYNTH_NAME)
#undef GARFAST_SYNTH_NAME
  m.attr("synth_parameters") = py::tuple(names);
  m.attr("synth_attributes") = kSynthAttributes;
}

}  // namespace garfast

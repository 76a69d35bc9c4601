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

void depth(P positions, P triangles, P camera, P frame, P front, int64_t num_vertices, int64_t num_triangles,
           int64_t size, bool cull, bool clear) {
  const SynthDepthParams p{in<float>(positions),
                           in<int32_t>(triangles),
                           in<float>(camera),
                           in<float>(frame),
                           out<float>(front),
                           num_vertices,
                           num_triangles,
                           size,
                           cull,
                           clear};
  GARFAST_CALL_CPU(synth_depth, p);
}

void draw(P positions, P normals, P attributes, P triangles, P materials, P camera, P parameters, P ambient, P shadow,
          P noise, P corners, P frame, P near, P layer_near, P layer_ids, P normal_map, P mask, int64_t num_vertices,
          int64_t num_triangles, int64_t height, int64_t width, int64_t shadow_size, bool cull) {
  const SynthDrawParams p{in<float>(positions),
                          in<float>(normals),
                          in<float>(attributes),
                          in<int32_t>(triangles),
                          in<uint8_t>(materials),
                          in<float>(camera),
                          in<float>(parameters),
                          in<float>(ambient),
                          in<float>(shadow),
                          in<int8_t>(noise),
                          in<int8_t>(corners),
                          out<float>(frame),
                          out<float>(near),
                          out<float>(layer_near),
                          out<int32_t>(layer_ids),
                          out<float>(normal_map),
                          out<uint8_t>(mask),
                          num_vertices,
                          num_triangles,
                          height,
                          width,
                          shadow_size,
                          cull};
  GARFAST_CALL_CPU(synth_draw, p);
}

void head(P vertices, P rotation, P translation, P triangles, P constants, P closed, P opened, P light, float mouth,
          P scalp, P beard, P broad, P fine, P positions, P normals, P attributes, int64_t num_vertices,
          int64_t num_triangles, int64_t plane_size) {
  const SynthHeadParams p{in<float>(vertices),
                          in<float>(rotation),
                          in<float>(translation),
                          in<int32_t>(triangles),
                          in<float>(constants),
                          in<float>(closed),
                          in<float>(opened),
                          in<float>(light),
                          mouth,
                          in<float>(scalp),
                          in<float>(beard),
                          in<float>(broad),
                          in<float>(fine),
                          out<float>(positions),
                          out<float>(normals),
                          out<float>(attributes),
                          num_vertices,
                          num_triangles,
                          plane_size};
  GARFAST_CALL_CPU(synth_head, p);
}

void resolve(P frame, P picture, P sums, int64_t height, int64_t width) {
  const SynthResolveParams p{in<float>(frame), out<float>(picture), out<double>(sums), height, width};
  GARFAST_CALL_CPU(synth_resolve, p);
}

void compose(P picture, P behind, P linear, float exposure, P light, P coverage, int64_t pixels) {
  const SynthComposeParams p{in<float>(picture),
                             in<uint8_t>(behind),
                             in<float>(linear),
                             exposure,
                             out<float>(light),
                             out<uint8_t>(coverage),
                             pixels};
  GARFAST_CALL_CPU(synth_compose, p);
}

void tone(P light, P gain, P curve, P result, float range, int64_t pixels, int64_t levels) {
  const SynthToneParams p{in<float>(light), in<float>(gain), in<float>(curve), out<float>(result), range,
                          pixels,           levels};
  GARFAST_CALL_CPU(synth_tone, p);
}

}  // namespace

void bind_synth(py::module_& m) {
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("synth_blend", &blend, nogil);
  m.def("synth_depth", &depth, nogil);
  m.def("synth_head", &head, nogil);
  m.def("synth_draw", &draw, nogil);
  m.def("synth_resolve", &resolve, nogil);
  m.def("synth_compose", &compose, nogil);
  m.def("synth_tone", &tone, nogil);
  py::list names;
#define GARFAST_SYNTH_NAME(name) names.append(#name);
  GARFAST_SYNTH_PARAMETERS(GARFAST_SYNTH_NAME)
#undef GARFAST_SYNTH_NAME
  m.attr("synth_parameters") = py::tuple(names);
  m.attr("synth_attributes") = kSynthAttributes;
}

}  // namespace garfast

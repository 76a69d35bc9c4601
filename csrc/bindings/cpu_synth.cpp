#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "cpu_bindings.h"
#include "garfast/simplify_mesh.h"
#include "garfast/synth.h"

// Dozens of arrays go into each picture: they are checked here, for a tenth of what asking them in Python for their
// type and address takes.
namespace garfast {

// The elements of a numpy array in C order, of exactly this type; null for None.
template <typename T>
struct Array {
  T* data;
  operator T*() const { return data; }
};

}  // namespace garfast

template <typename T>
struct pybind11::detail::type_caster<garfast::Array<T>> {
  PYBIND11_TYPE_CASTER(garfast::Array<T>, const_name("numpy.ndarray[") +
                                              npy_format_descriptor<std::remove_const_t<T>>::name + const_name("]"));

  bool load(handle source, bool) {
    value.data = nullptr;
    if (source.is_none()) return true;
    if (!array_t<std::remove_const_t<T>, array::c_style>::check_(source)) return false;
    const auto given = reinterpret_borrow<array>(source);
    if (!std::is_const_v<T> && !given.writeable()) return false;
    value.data = static_cast<T*>(const_cast<void*>(given.data()));
    return true;
  }
};

namespace garfast {
namespace synth_binding {

using Floats = Array<const float>;
using Integers = Array<const int32_t>;
using FloatsOut = Array<float>;
using BytesOut = Array<uint8_t>;

void blend(Floats mean, Array<const int16_t> basis, Floats step, Floats weights, FloatsOut result, int64_t start,
           int64_t size, int64_t num_faces, int64_t num_rows, int64_t row_size) {
  const SynthBlendParams p{mean + start, basis + start, step, weights, result + start,
                           num_faces,    num_rows,      size, row_size};
  GARFAST_CALL_CPU(synth_blend, p);
}

void depth(Floats positions, Integers triangles, Floats camera, Floats frame, FloatsOut front, int64_t num_vertices,
           int64_t num_triangles, int64_t size, bool cull, bool clear) {
  const SynthDepthParams p{positions, triangles, camera, frame, front, num_vertices, num_triangles, size, cull, clear};
  GARFAST_CALL_CPU(synth_depth, p);
}

void draw(Floats positions, Floats normals, Floats attributes, Integers triangles, Array<const uint8_t> materials,
          Floats camera, Floats parameters, Floats ambient, Floats shadow, Array<const int8_t> noise,
          Array<const int8_t> corners, FloatsOut frame, FloatsOut near, FloatsOut layer_near, Array<int32_t> layer_ids,
          FloatsOut normal_map, BytesOut mask, int64_t num_vertices, int64_t num_triangles, int64_t height,
          int64_t width, int64_t shadow_size, bool cull) {
  const SynthDrawParams p{positions,     normals,    attributes, triangles,   materials, camera,
                          parameters,    ambient,    shadow,     noise,       corners,   frame,
                          near,          layer_near, layer_ids,  normal_map,  mask,      num_vertices,
                          num_triangles, height,     width,      shadow_size, cull};
  GARFAST_CALL_CPU(synth_draw, p);
}

void head(Floats vertices, Floats rotation, Floats translation, Integers triangles, Floats constants, Floats closed,
          Floats opened, Floats light, float mouth, Floats scalp, Floats beard, Floats broad, Floats fine,
          FloatsOut positions, FloatsOut normals, FloatsOut attributes, int64_t num_vertices, int64_t num_triangles,
          int64_t plane_size) {
  const SynthHeadParams p{vertices, rotation,   translation,  triangles,     constants, closed, opened,
                          light,    mouth,      scalp,        beard,         broad,     fine,   positions,
                          normals,  attributes, num_vertices, num_triangles, plane_size};
  GARFAST_CALL_CPU(synth_head, p);
}

void resolve(Floats frame, FloatsOut picture, Array<double> sums, int64_t height, int64_t width) {
  const SynthResolveParams p{frame, picture, sums, height, width};
  GARFAST_CALL_CPU(synth_resolve, p);
}

void compose(Floats picture, Array<const uint8_t> behind, Floats linear, float exposure, FloatsOut light,
             BytesOut coverage, int64_t pixels) {
  const SynthComposeParams p{picture, behind, linear, exposure, light, coverage, pixels};
  GARFAST_CALL_CPU(synth_compose, p);
}

void develop(Floats light, Floats gain, Floats curve, Floats noise, BytesOut picture, float range, float falloff,
             float centre_x, float centre_y, float stray, float gray, float own, float shared, int64_t height,
             int64_t width, int64_t levels) {
  const SynthDevelopParams p{light,    gain,  curve, noise, picture, range,  falloff, centre_x,
                             centre_y, stray, gray,  own,   shared,  height, width,   levels};
  GARFAST_CALL_CPU(synth_develop, p);
}

// numbers: SynthHairParams' from eye_height to ear_at.
void hair(Floats vertices, Integers around, Floats shares, Floats beside, Floats broad, Floats medium, Floats fine,
          Floats azimuth, Floats polar, Floats line_at, Floats line, Floats centre, Floats swell, Floats rotation,
          Floats translation, const std::array<float, 11>& numbers, FloatsOut positions, FloatsOut normals,
          FloatsOut attributes, Array<int32_t> back, Array<int32_t> front, Array<int64_t> found, int64_t skull_rows,
          int64_t hang_rows, int64_t columns, int64_t neighbours, int64_t line_points) {
  const auto& n = numbers;
  const SynthHairParams p{vertices,   around,    shares,    beside,     broad,      medium,   fine,        azimuth,
                          polar,      line_at,   line,      centre,     swell,      rotation, translation, n[0],
                          n[1],       n[2],      n[3],      n[4],       n[5],       n[6],     n[7],        n[8],
                          n[9],       n[10],     positions, normals,    attributes, back,     front,       found,
                          skull_rows, hang_rows, columns,   neighbours, line_points};
  GARFAST_CALL_CPU(synth_hair, p);
}

void torso(Floats profile, Floats eyes_centre, Floats rotation, Floats translation, Floats colour, float dip,
           float dip_power, float specular, float gloss, FloatsOut positions, FloatsOut normals, FloatsOut attributes,
           int64_t rows, int64_t columns) {
  const SynthTorsoParams p{profile,  eyes_centre, rotation,  translation, colour,     dip,  dip_power,
                           specular, gloss,       positions, normals,     attributes, rows, columns};
  GARFAST_CALL_CPU(synth_torso, p);
}

void tube(Floats path, Floats radius, float flat, FloatsOut positions, FloatsOut normals, int64_t points, int64_t rings,
          int64_t sides, bool closed) {
  const SynthTubeParams p{path, radius, flat, positions, normals, points, rings, sides, closed};
  GARFAST_CALL_CPU(synth_tube, p);
}

void outline(Floats positions, Integers rows, Floats directions, float scale, float offset_x, float offset_y,
             FloatsOut pixels, int64_t count, int64_t choices, bool orthographic) {
  const SynthOutlineParams p{positions, rows,   directions, scale,   offset_x,
                             offset_y,  pixels, count,      choices, orthographic};
  GARFAST_CALL_CPU(synth_outline, p);
}

void blur(Array<const uint8_t> picture, Floats kernel, BytesOut out, float sharpen, int64_t height, int64_t width,
          int64_t radius) {
  const SynthBlurParams p{picture, kernel, out, sharpen, height, width, radius};
  GARFAST_CALL_CPU(synth_blur, p);
}

void simplify(Array<const double> points, Array<const uint8_t> fixed, Array<int32_t> triangles, double tolerance,
              double longest, int64_t num_vertices, int64_t num_triangles, int64_t size, int64_t num_poses) {
  const SimplifyMeshParams p{points,       fixed,         triangles, tolerance, longest,
                             num_vertices, num_triangles, size,      num_poses};
  GARFAST_CALL_CPU(simplify_mesh, p);
}

}  // namespace synth_binding

void bind_synth(py::module_& m) {
  using namespace synth_binding;
  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("synth_blend", &blend, nogil);
  m.def("synth_depth", &depth, nogil);
  m.def("synth_head", &head, nogil);
  m.def("synth_draw", &draw, nogil);
  m.def("synth_resolve", &resolve, nogil);
  m.def("synth_compose", &compose, nogil);
  m.def("synth_develop", &develop, nogil);
  m.def("synth_hair", &hair, nogil);
  m.def("synth_torso", &torso, nogil);
  m.def("synth_tube", &tube, nogil);
  m.def("synth_outline", &outline, nogil);
  m.def("synth_blur", &blur, nogil);
  m.def("simplify_mesh", &simplify, nogil);
  py::list names;
#define GARFAST_SYNTH_NAME(name) names.append(#name);
  GARFAST_SYNTH_PARAMETERS(GARFAST_SYNTH_NAME)
#undef GARFAST_SYNTH_NAME
  m.attr("synth_parameters") = py::tuple(names);
  m.attr("synth_attributes") = kSynthAttributes;
}

}  // namespace garfast

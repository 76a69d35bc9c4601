// Fewer triangles for a mesh that will be seen from afar.
#pragma once

#include <cstdint>

#include "garfast/isa.h"

namespace garfast {

// Moves vertices onto neighbours, the cheapest move first, as long as the surface stays where it was: Garland and
// Heckbert's quadrics (SIGGRAPH 1997; in more than three dimensions: Visualization 1998). What remains is a part of the
// old vertices, so whatever is known of vertices stays known.
struct SimplifyMeshParams {
  const double* points;  // [V, D] positions (mm) in `num_poses` poses, then other numbers that must hold as well
  const uint8_t* fixed;  // [V] 1 where a vertex must stay
  int32_t* triangles;    // [F, 3] in and out; -1 thrice where a triangle is gone
  double tolerance;      // how far from a replaced triangle's plane the surface may come to lie
  double longest;        // no edge grows longer than this (mm, first pose)
  int64_t num_vertices, num_triangles, size, num_poses;
};

GARFAST_DECLARE_CPU(simplify_mesh, SimplifyMeshParams)

}  // namespace garfast

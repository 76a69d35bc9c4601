// Pictures of synthetic faces: visibility of a triangle mesh, blendshape sums, and deferred shading of its layers.
//
// A picture is drawn in layers (body, head, hair, things), each a triangle mesh with its own visibility buffer at twice
// the picture's resolution. Shading takes one layer at a time and composes it into a linear RGBA frame: farther layers
// first, a sample only where it is nearer than what is there. Lengths are millimetres in camera space (x right, y up,
// the camera looks along -z); depth is -z.
#pragma once

#include <cstdint>

#include "garfast/isa.h"

namespace garfast {

// Every scalar a material knows, in the order in which Python packs them (garfast._cpu.synth_parameters has the names).
// clang-format off
#define GARFAST_SYNTH_PARAMETERS(X)                                                                                    \
  X(pixel_mm) X(noise_x) X(noise_y) X(noise_z)                                                                         \
  X(skin_r) X(skin_g) X(skin_b) X(mottle) X(redness) X(blush) X(freckles) X(freckle_size) X(oil) X(gloss) X(bump)      \
  X(wrinkles) X(bags) X(lip_r) X(lip_g) X(lip_b) X(lip_strength) X(lip_gloss)                                          \
  X(shadow_r) X(shadow_g) X(shadow_b) X(shadow_strength) X(shadow_width) X(liner) X(lash_length)                       \
  X(brow_r) X(brow_g) X(brow_b) X(brow_strength) X(brow_width) X(brow_taper) X(brow_start) X(brow_end) X(brow_ragged)  \
  X(brow_rise) X(beard_r) X(beard_g) X(beard_b) X(beard_strength) X(stubble) X(beard_grain)                            \
  X(mole0_x) X(mole0_y) X(mole0_z) X(mole0_r) X(mole1_x) X(mole1_y) X(mole1_z) X(mole1_r)                              \
  X(mole2_x) X(mole2_y) X(mole2_z) X(mole2_r)                                                                          \
  X(iris_r) X(iris_g) X(iris_b) X(iris_ring) X(iris_radius) X(pupil_radius) X(sclera_r) X(sclera_g) X(sclera_b)        \
  X(veins) X(catchlight) X(catch_x) X(catch_y) X(catch_size)                                                           \
  X(teeth_r) X(teeth_g) X(teeth_b) X(mouth_r) X(mouth_g) X(mouth_b)                                                    \
  X(hair_r) X(hair_g) X(hair_b) X(hair_tip_r) X(hair_tip_g) X(hair_tip_b) X(hair_gloss) X(hair_grain) X(hair_clump)    \
  X(hair_ragged) X(hair_wave) X(scalp_strength)                                                                        \
  X(pattern) X(pattern_scale) X(pattern_r) X(pattern_g) X(pattern_b)                                                   \
  X(key_x) X(key_y) X(key_z) X(key_r) X(key_g) X(key_b)                                                                \
  X(rim_x) X(rim_y) X(rim_z) X(rim_r) X(rim_g) X(rim_b)                                                                \
  X(shadow_on) X(wrap)                                                                   \
  X(map_xx) X(map_xy) X(map_xz) X(map_x0) X(map_yx) X(map_yy) X(map_yz) X(map_y0) X(map_zx) X(map_zy) X(map_zz) X(map_z0)        \
  X(orthographic)
// clang-format on

enum SynthParameter : int {
#define GARFAST_SYNTH_ENUM(name) kSynth_##name,
  GARFAST_SYNTH_PARAMETERS(GARFAST_SYNTH_ENUM)
#undef GARFAST_SYNTH_ENUM
      kSynthParameters
};

// Which shader draws a triangle.
enum SynthMaterial : uint8_t { kSkin = 0, kEye = 1, kTeeth = 2, kMouth = 3, kHair = 4, kSolid = 5 };

// Attributes per vertex [V, kSynthAttributes]: what they mean depends on the material.
//   skin, teeth, mouth  0-2 place on the mean face (mm); 3 distance outside the lips' outline (mm, negative inside);
//                       4 distance from the lid opening (mm); 5 height above the eye's axis (mm); 6 place along the
//                       brow (0 inner end .. 1 outer end); 7 height above the brow's middle line (mm); 8 blush; 9
//                       oiliness; 10 ambient openness (0..1); 11 scalp hair; 12 beard;
//                       13, 14 broad and fine blotches (about normal)
//   eye                 0-2 direction from the eye's centre at rest; 10 ambient openness
//   hair                0 place across the strands, 1 along them (mm); 2-4 strand direction in camera space;
//                       5 cover (signed mm inside the outline); 6 share of the way to the tip; 10 ambient openness
//   solid               0-2 colour; 3 specular strength; 4 gloss exponent; 5-6 texture place (mm); 7 opacity;
//                       8 how much of the pattern it takes; 10 ambient openness
constexpr int kSynthAttributes = 16;  // one cache line

// The front of a mesh, seen along -z without perspective.
struct SynthDepthParams {
  const float* positions;    // [V, 3]
  const int32_t* triangles;  // [F, 3] counter-clockwise from outside
  const float* camera;       // [4] NDC coefficients as for rasterize_normals
  const float* frame;        // [3, 4] moves the positions before they are drawn, or null
  float* front;              // [M, M] out: the largest z, -inf where nothing is
  int64_t num_vertices, num_triangles, size;
  bool cull;   // leave out triangles seen from inside
  bool clear;  // start from an empty map; otherwise keep what is nearer
};

struct SynthBlendParams {
  const float* mean;     // [N]
  const int16_t* basis;  // [K, N] quantised
  const float* step;     // [K] size of one quantum
  const float* weights;  // [F, K], of F faces; eight rows that have weight 0 in all of them cost nothing
  float* out;            // [F, N]
  int64_t num_faces, num_rows, size, row_size;  // row_size: from one row of the basis, or face, to the next
};

// Places a head in camera space and dresses its vertices.
struct SynthHeadParams {
  const float* vertices;         // [V, 3] model space
  const float* rotation;         // [3, 3] model space to camera space
  const float* translation;      // [3]
  const int32_t* triangles;      // [F, 3]
  const float* constants;        // [V, kSynthAttributes] what does not change from face to face
  const float *closed, *opened;  // [2, 9, plane_size] light arriving at each vertex with the head's own occlusion and
                                 // without, per coefficient of the light around; mouth closed and open
  const float* light;            // [9] light around in the head's frame
  float mouth;                   // 0..1 how far the mouth is open
  const float *scalp, *beard;    // [V] attributes 11 and 12, or null
  const float *broad, *fine;     // [V] attributes 13 and 14
  float* positions;              // [V, 3] out: camera space
  float* normals;                // [V, 3] out: area-weighted, unit
  float* attributes;             // [V, kSynthAttributes] out
  int64_t num_vertices, num_triangles, plane_size;
};

// A shell of hair around a head: a grid of columns that run from the crown downward, first along the skull, raised
// above it, then hanging. R = skull_rows + hang_rows, C = columns. Lengths in mm, angles in degrees unless they are
// called otherwise; heights are above the eyes (garfast.synth.hair.HairStyle says what the numbers of a cut mean).
struct SynthHairParams {
  const float* vertices;                      // [V, 3] of the head, model space
  const int32_t* around;                      // [skull_rows, C, neighbours] vertices around each direction of the grid
  const float* shares;                        // [skull_rows, C, neighbours] their weights
  const float* beside;                        // [skull_rows, C] 0 on top .. 1 beside the head
  const float *broad, *medium, *fine;         // [R, C] smooth fields, about normal
  const float* azimuth;                       // [C] 0 in front, positive to the subject's left
  const float* polar;                         // [skull_rows] radians from the crown
  const float *line_at, *line;                // [line_points] heights of the hairline at azimuths
  const float* centre;                        // [3] of the grid's directions, model space
  const float* swell;                         // [3] how far the fields move the shell
  const float *rotation, *translation;        // [3, 3] and [3] model space to camera space
  float eye_height;                           // model space
  float fringe, fringe_slope, opening, ends;  // of the cut
  float thickness, side_thickness;            // of the cut
  float lean;                                 // how far strands lean aside, per length
  float strand_radius;                        // turns azimuth into width of hair
  float frayed;                               // outside the outline where the last strand ends
  float ear_at;                               // azimuth from which a triangle lies behind the ears
  float *positions, *normals;                 // [R C, 3] out: camera space
  float* attributes;                          // [R C, kSynthAttributes] out
  int32_t *back, *front;                      // [2 (R - 1) C, 3] out: the triangles inside the outline
  int64_t* found;                             // [2] out: how many of each
  int64_t skull_rows, hang_rows, columns, neighbours, line_points;
};

// A clothed torso: rings around a vertical axis below the eyes.
struct SynthTorsoParams {
  const float* profile;  // [rows, 6] half width, half depth, height, place in depth (mm from the eyes), share of the
                         // neckline's depth by which the front sinks, ambient openness
  const float* eyes_centre;             // [3] model space
  const float *rotation, *translation;  // [3, 3] and [3] model space to camera space
  const float* colour;                  // [3]
  float dip, dip_power;                 // depth of the neckline (mm), and how narrow it is
  float specular, gloss;
  float *positions, *normals;  // [rows columns, 3] out: camera space
  float* attributes;           // [rows columns, kSynthAttributes] out
  int64_t rows, columns;
};

// A tube along a path.
struct SynthTubeParams {
  const float *path, *radius;    // [points, 3] and [points]
  float flat;                    // scales its section along z
  float *positions, *normals;    // [rings sides, 3] out
  int64_t points, rings, sides;  // one ring for each point, and the first again if it is closed
  bool closed;
};

// Of the vertices over which each landmark of the jaw may slide, the one farthest outward in the picture.
struct SynthOutlineParams {
  const float* positions;           // [V, 3] camera space
  const int32_t* rows;              // [count, choices] vertices, -1 where there are no more
  const float* directions;          // [count, 2] outward in the picture
  float scale, offset_x, offset_y;  // pixels per mm, or the focal length; place of the camera's axis in the picture
  float* pixels;                    // [count, 2] out
  int64_t count, choices;
  bool orthographic;
};

// Draws a layer into a frame, where it is nearer than what is there: two samples a side, shaded once per pixel and
// surface. How near a sample is, is z without perspective and 1 / depth with it, -inf where there is nothing.
struct SynthDrawParams {
  const float* positions;    // [V, 3] camera space
  const float* normals;      // [V, 3]
  const float* attributes;   // [V, kSynthAttributes]
  const int32_t* triangles;  // [F, 3] counter-clockwise from outside
  const uint8_t* materials;  // [F] SynthMaterial
  const float* camera;       // [4] NDC coefficients as for rasterize_normals
  const float* parameters;   // [kSynthParameters]
  const float* ambient;      // [9, 3] irradiance coefficients of the light around
  const float* shadow;       // [M, M] the front seen from the key light (SynthDepthParams); may be null
  const int8_t* noise;       // [64, 64, 65, 4] tiling noise: value and gradient; the last layer repeats the first
  const int8_t* corners;     // [64, 64, 64, 4] the same values at (y, z), (y, z + 1), (y + 1, z), (y + 1, z + 1)
  float* frame;              // [2H, 2W, 4] linear premultiplied colour, in and out
  float* near;               // [2H, 2W] how near the frame's samples are, in and out
  float* layer_near;         // [2H, 2W] room for the layer's own
  int32_t* layer_ids;        // [2H, 2W] room for its triangles
  float* normal_map;         // [3, H, W] out, or null: unit normals that the pixels' middles see, 0 where nothing is
  uint8_t* mask;             // [H, W] out, or null: 1 where something is
  int64_t num_vertices, num_triangles;
  int64_t height, width;  // of the picture
  int64_t shadow_size;
  bool cull;  // leave out triangles seen from inside
};

struct SynthResolveParams {
  const float* frame;     // [2H, 2W, 4] linear premultiplied colour
  float* picture;         // [H, W, 4] out: means of four samples
  double* sums;           // [4] out: totals of the picture's channels
  int64_t height, width;  // of the picture
};

struct SynthComposeParams {
  const float* picture;   // [H, W, 4] linear premultiplied colour
  const uint8_t* behind;  // [H, W, 3] sRGB
  const float* linear;    // [256] linear light of sRGB values, scaled by the brightness of what is behind
  float exposure;         // scales the picture
  float* light;           // [H, W, 3] out: linear light of both together
  uint8_t* coverage;      // [H, W] out: the picture's opacity, 255 for 1
  int64_t pixels;         // H W
};

// From light to a picture's values: falloff toward the corners, gains, the tone curve, grey, grain.
struct SynthDevelopParams {
  const float* light;  // [H, W, 3] linear
  const float* gain;   // [3] factor of each channel
  const float* curve;  // [levels] values 0..255 at light range (k / (levels - 1))^2, straight lines between
  const float* noise;  // [H, W, 3], or null
  uint8_t* picture;    // [H, W, 3] out
  float range;         // more light counts as this much
  float falloff;       // light lost per squared distance from the centre; picture coordinates are -1..1
  float centre_x, centre_y;
  float stray;        // light added everywhere, after the gain
  float gray;         // 0 colours as they are .. 1 none
  float own, shared;  // how much a channel's own noise counts, and the first channel's
  int64_t height, width, levels;
};

// A Gaussian blur; beyond its edges a picture goes on as it is there.
struct SynthBlurParams {
  const uint8_t* picture;  // [H, W, 3]
  const float* kernel;     // [radius + 1] weights from the middle outward; with both sides they sum to 1
  uint8_t* out;            // [H, W, 3]; may be the picture itself
  float sharpen;           // 0 gives the blurred picture; otherwise the picture and so much of its difference to it
  int64_t height, width, radius;
};

GARFAST_DECLARE_CPU(synth_depth, SynthDepthParams)
GARFAST_DECLARE_CPU(synth_blur, SynthBlurParams)
GARFAST_DECLARE_CPU(synth_resolve, SynthResolveParams)
GARFAST_DECLARE_CPU(synth_compose, SynthComposeParams)
GARFAST_DECLARE_CPU(synth_develop, SynthDevelopParams)
GARFAST_DECLARE_CPU(synth_blend, SynthBlendParams)
GARFAST_DECLARE_CPU(synth_head, SynthHeadParams)
GARFAST_DECLARE_CPU(synth_draw, SynthDrawParams)
GARFAST_DECLARE_CPU(synth_hair, SynthHairParams)
GARFAST_DECLARE_CPU(synth_torso, SynthTorsoParams)
GARFAST_DECLARE_CPU(synth_tube, SynthTubeParams)
GARFAST_DECLARE_CPU(synth_outline, SynthOutlineParams)

}  // namespace garfast

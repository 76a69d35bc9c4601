// Meshes around a head: a shell of hair, a torso, tubes; and the outline of its jaw.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "garfast/synth.h"
#include "garfast/vec3.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

using Vec = Vec3<float>;

constexpr float kPi = 3.14159265358979f;

float limited(float value, float low, float high) { return std::min(std::max(value, low), high); }

Vec unit(Vec v) { return v * (1.0f / std::sqrt(std::max(dot(v, v), 1e-12f))); }

// Model space to camera space.
struct Place {
  const float *rotation, *translation;

  Vec turned(Vec v) const {
    const float* r = rotation;
    return {dot(load3(r), v), dot(load3(r + 3), v), dot(load3(r + 6), v)};
  }
  Vec operator()(Vec v) const { return turned(v) + load3(translation); }
};

// A grid of points [rows, columns] whose last column neighbours the first.
struct Ring {
  const float* points;
  int64_t rows, columns;

  Vec at(int64_t row, int64_t column) const { return load3(points + 3 * (row * columns + column)); }
  // Which way a column runs at a point.
  Vec along(int64_t row, int64_t column) const {
    return at(std::min(row + 1, rows - 1), column) - at(std::max<int64_t>(row - 1, 0), column);
  }
  Vec normal(int64_t row, int64_t column) const {
    const int64_t next = column + 1 < columns ? column + 1 : 0, before = column > 0 ? column - 1 : columns - 1;
    return unit(cross(along(row, column), at(row, next) - at(row, before)));
  }
};

// What straight lines through (at, value) give; constant outside.
float interpolated(float x, const float* at, const float* value, int64_t count) {
  int64_t k = 1;
  while (k + 1 < count && x > at[k]) ++k;
  const float share = limited((x - at[k - 1]) / (at[k] - at[k - 1]), 0.0f, 1.0f);
  return value[k - 1] + share * (value[k] - value[k - 1]);
}

class HairShell {
 public:
  explicit HairShell(const SynthHairParams& p)
      : p_(p),
        rows_(p.skull_rows + p.hang_rows),
        centre_(load3(p.centre)),
        points_(new float[3 * rows_ * p.columns]),
        columns_(new Column[p.columns]) {}

  void grow() {
    for (int64_t k = 0; k < p_.columns; ++k) columns_[k] = column(k);
    // Row by row, as the numbers lie in memory.
    for (int64_t row = 0; row < rows_; ++row) {
      const bool hanging = row >= p_.skull_rows;
      const float polar = p_.polar[hanging ? p_.skull_rows - 1 : row];
      const float spread = 0.35f + 0.65f * std::sin(limited(polar, 0.0f, 0.5f * kPi));
      for (int64_t k = 0; k < p_.columns; ++k) {
        if (hanging)
          hang(row, k);
        else
          cover_skull(row, k);
        dress(row, k, spread);
      }
    }
    place();
    choose();
  }

 private:
  // What is the same all the way down a column, and how far it has come.
  struct Column {
    float around;            // degrees from the front
    float line, fringe_end;  // heights of the hairline and of the fringe's end
    float fall, beside_ear;  // how freely it falls, how near it passes the ear, 0..1
    float widest, along;     // largest distance from the head's axis and length so far
    float open;              // to the light around
    Vec before, last;        // the point above, and the last on the skull
  };

  const SynthHairParams& p_;
  const int64_t rows_;
  const Vec centre_;
  const std::unique_ptr<float[]> points_;  // [rows, columns, 3] model space
  const std::unique_ptr<Column[]> columns_;

  bool falls() const { return p_.opening < 180.0f; }
  float wave(int64_t i) const {
    return p_.swell[0] * p_.broad[i] + p_.swell[1] * p_.medium[i] + p_.swell[2] * p_.fine[i];
  }
  float* attributes(int64_t i) const { return p_.attributes + kSynthAttributes * i; }

  Column column(int64_t k) const {
    const float around = std::abs(p_.azimuth[k]), off_ear = (around - 92.0f) / 22.0f;
    const float line = interpolated(around, p_.line_at, p_.line, p_.line_points);
    const float fringe = (p_.fringe + p_.fringe_slope * p_.azimuth[k]) * limited(1.25f - around / 60.0f, 0.0f, 1.0f);
    Column out{};
    out.around = around;
    out.line = line;
    out.fringe_end = line - fringe;
    out.fall = limited((around - p_.opening + 25.0f) / 30.0f, 0.0f, 1.0f);
    out.beside_ear = std::exp(-off_ear * off_ear);
    return out;
  }

  // Raises the shell over the skin around a direction.
  void cover_skull(int64_t row, int64_t k) {
    Column& column = columns_[k];
    const int64_t i = row * p_.columns + k;
    Vec skin{0, 0, 0};
    for (int64_t j = i * p_.neighbours; j < (i + 1) * p_.neighbours; ++j)
      skin = skin + load3(p_.vertices + 3 * int64_t(p_.around[j])) * p_.shares[j];
    const float height = skin.y - p_.eye_height, above = height - column.line;
    // Above the hairline the shell rises from the skin; below it (fringe, falling hair) it floats a little above.
    float root = limited(above / 30.0f + (p_.fringe > 0.0f ? 0.35f : 0.12f), 0.06f, 1.0f);
    if (above < 10.0f) root = std::max(root, 0.75f * column.fall);
    const float thickness = p_.thickness + (p_.side_thickness - p_.thickness) * p_.beside[i];
    float raised = std::max(thickness * root + wave(i) * limited(root * 1.5f, 0.0f, 1.0f), 0.8f) + 0.8f;
    if (column.fall > 0.3f) {  // hair passes outside the ears
      const float off = (height - 5.0f) / 38.0f;
      raised += 14.0f * column.beside_ear * std::exp(-off * off);
    }
    column.open = limited(0.55f + 0.45f * raised / std::max(p_.thickness, 3.0f), 0.35f, 1.0f);
    Vec at = skin + unit(skin - centre_) * raised;
    if (falls()) {
      // Gravity: below its widest place a falling column keeps its distance from the head's axis.
      const float x = at.x - centre_.x, z = at.z - centre_.z, radius = std::sqrt(x * x + z * z);
      column.widest = std::max(column.widest, radius);
      const float least = 0.97f * column.widest * (p_.polar[row] > 0.5f * kPi ? 0.99f : 1.0f);
      if (column.around >= p_.opening - 25.0f && p_.polar[row] > 1.2f && radius < least) {
        const float scale = least / std::max(radius, 1e-3f);
        at = {centre_.x + x * scale, at.y, centre_.z + z * scale};
      }
    }
    store3(points_.get() + 3 * i, at);
    column.last = at;
  }

  void hang(int64_t row, int64_t k) {
    const Column& column = columns_[k];
    const int64_t i = row * p_.columns + k;
    Vec at = column.last;
    if (falls()) {
      const float share = float(row - p_.skull_rows + 1) / float(p_.hang_rows);
      const float flare = 0.12f * limited((-p_.ends - 120.0f) / 200.0f, 0.0f, 1.0f);
      const float drift = 1.0f + 0.012f * wave(i) + flare * share;
      at = {centre_.x + (at.x - centre_.x) * drift,
            at.y + share * std::min(p_.eye_height + p_.ends - 12.0f - at.y, 0.0f),
            centre_.z + (at.z - centre_.z) * drift};
    }
    store3(points_.get() + 3 * i, at);
  }

  // ``spread``: how wide the hair is at this row, beside where it is widest.
  void dress(int64_t row, int64_t k, float spread) {
    Column& column = columns_[k];
    const int64_t i = row * p_.columns + k;
    const Vec here = load3(points_.get() + 3 * i);
    if (row > 0) {
      const Vec step = here - column.before;
      column.along += std::sqrt(dot(step, step));
    }
    column.before = here;
    const float height = here.y - p_.eye_height;
    float over = height - column.fringe_end;
    if (falls())
      over = std::max(over, std::min(height - p_.ends, (column.around - p_.opening) * 1.5f + 0.5f * wave(i)));
    float* out = attributes(i);
    std::fill_n(out, kSynthAttributes, 0.0f);
    out[0] = p_.azimuth[k] * (kPi / 180.0f) * p_.strand_radius * spread + p_.lean * column.along;
    out[1] = column.along;
    out[5] = limited(over, -60.0f, 60.0f);
    out[6] = limited((column.along - 120.0f) / 220.0f, 0.0f, 1.0f);
    out[10] = row >= p_.skull_rows ? limited(column.open, 0.4f, 0.8f) : column.open;
  }

  void place() {
    const Place placed{p_.rotation, p_.translation};
    const Ring ring{points_.get(), rows_, p_.columns};
    for (int64_t row = 0; row < rows_; ++row)
      for (int64_t column = 0; column < p_.columns; ++column) {
        const int64_t i = row * p_.columns + column;
        store3(p_.positions + 3 * i, placed(ring.at(row, column)));
        store3(p_.normals + 3 * i, placed.turned(ring.normal(row, column)));
        store3(attributes(i) + 2, unit(placed.turned(ring.along(row, column))));
      }
  }

  // Triangles with a corner inside the outline, those behind the ears apart.
  void choose() {
    int64_t found[2] = {0, 0};
    for (int64_t row = 0; row + 1 < rows_; ++row)
      for (int64_t column = 0; column < p_.columns; ++column) {
        const int64_t beside = column + 1 < p_.columns ? column + 1 : 0;
        const int32_t a = int32_t(row * p_.columns + column), b = a + int32_t(p_.columns);
        const int32_t a2 = int32_t(row * p_.columns + beside), b2 = a2 + int32_t(p_.columns);
        const auto inside = [&](int32_t i) { return p_.attributes[int64_t(kSynthAttributes) * i + 5] > -p_.frayed; };
        const bool diagonal = inside(a) || inside(b2), front = columns_[column].around <= p_.ear_at;
        int32_t* list = front ? p_.front : p_.back;
        const auto add = [&](int32_t i, int32_t j, int32_t k) {
          int32_t* out = list + 3 * found[front]++;
          out[0] = i, out[1] = j, out[2] = k;
        };
        if (diagonal || inside(b)) add(a, b, b2);
        if (diagonal || inside(a2)) add(a, b2, a2);
      }
    std::copy_n(found, 2, p_.found);
  }
};

}  // namespace

void synth_hair(const SynthHairParams& p) { HairShell(p).grow(); }

void synth_torso(const SynthTorsoParams& p) {
  const Place placed{p.rotation, p.translation};
  const std::unique_ptr<float[]> points(new float[3 * p.rows * p.columns]);
  const Ring ring{points.get(), p.rows, p.columns};
  const std::unique_ptr<float[]> sine(new float[p.columns]), cosine(new float[p.columns]), front(new float[p.columns]);
  for (int64_t column = 0; column < p.columns; ++column) {
    const float angle = 2.0f * kPi * float(column) / float(p.columns);
    sine[column] = std::sin(angle);
    cosine[column] = std::cos(angle);
    front[column] = std::pow(std::max(cosine[column], 0.0f), p.dip_power);
  }
  for (int64_t row = 0; row < p.rows; ++row)
    for (int64_t column = 0; column < p.columns; ++column) {
      const float* profile = p.profile + 6 * row;
      const float dip = p.dip * front[column];
      const Vec at{profile[0] * sine[column], profile[2] - profile[4] * dip,
                   profile[1] * cosine[column] + profile[3] + (row < 2 ? 0.35f * dip : 0.0f)};
      const int64_t i = row * p.columns + column;
      store3(points.get() + 3 * i, at + load3(p.eyes_centre));
    }
  for (int64_t row = 0; row < p.rows; ++row)
    for (int64_t column = 0; column < p.columns; ++column) {
      const int64_t i = row * p.columns + column;
      const Vec at = ring.at(row, column);
      store3(p.positions + 3 * i, placed(at));
      store3(p.normals + 3 * i, placed.turned(ring.normal(row, column)));
      float* out = p.attributes + kSynthAttributes * i;
      std::fill_n(out, kSynthAttributes, 0.0f);
      std::copy_n(p.colour, 3, out);
      out[3] = p.specular;
      out[4] = p.gloss;
      out[5] = at.x + 0.6f * at.z;
      out[6] = at.y;
      out[7] = out[8] = 1.0f;
      out[10] = p.profile[6 * row + 5];
    }
}

void synth_tube(const SynthTubeParams& p) {
  for (int64_t i = 0; i < p.rings; ++i) {
    const int64_t here = i % p.points;
    const auto at = [&](int64_t k) { return load3(p.path + 3 * k); };
    const Vec ahead = unit(p.closed ? at((here + 1) % p.points) - at((here + p.points - 1) % p.points)
                                    : at(std::min(here + 1, p.points - 1)) - at(std::max<int64_t>(here - 1, 0)));
    const Vec helper = std::abs(ahead.z) < 0.9f ? Vec{0, 0, 1} : Vec{0, 1, 0};
    const Vec first = unit(cross(ahead, helper)), second = cross(ahead, first);
    for (int64_t k = 0; k < p.sides; ++k) {
      const float angle = 2.0f * kPi * float(k) / float(p.sides);
      const Vec section = first * std::cos(angle) + second * (p.flat * std::sin(angle));
      store3(p.positions + 3 * (i * p.sides + k), at(here) + section * p.radius[here]);
      store3(p.normals + 3 * (i * p.sides + k), unit(section));
    }
  }
}

void synth_outline(const SynthOutlineParams& p) {
  for (int64_t i = 0; i < p.count; ++i) {
    float farthest = -std::numeric_limits<float>::infinity();
    for (int64_t k = 0; k < p.choices && p.rows[i * p.choices + k] >= 0; ++k) {
      const float* v = p.positions + 3 * int64_t(p.rows[i * p.choices + k]);
      const float scale = p.orthographic ? p.scale : -p.scale / v[2];
      const float x = v[0] * scale + p.offset_x, y = -v[1] * scale + p.offset_y;
      const float outward = x * p.directions[2 * i] + y * p.directions[2 * i + 1];
      if (outward > farthest) {
        farthest = outward;
        p.pixels[2 * i] = x;
        p.pixels[2 * i + 1] = y;
      }
    }
  }
}

}  // namespace GARFAST_ISA
}  // namespace garfast

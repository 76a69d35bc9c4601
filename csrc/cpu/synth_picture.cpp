// From a shaded frame to a picture: means of samples, what is behind, the tone curve.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "garfast/synth.h"
#include "synth_lanes.h"

namespace garfast {
namespace GARFAST_ISA {

void synth_resolve(const SynthResolveParams& p) {
  double sums[4] = {0, 0, 0, 0};
  const int64_t stride = 8 * p.width;
  const auto sample = [](const float* from) {
    Quad out;
    std::memcpy(&out, from, sizeof out);
    return out;
  };
  for (int64_t row = 0; row < p.height; ++row) {
    const float *upper = p.frame + 2 * row * stride, *lower = upper + stride;
    float* out = p.picture + row * p.width * 4;
    // Sums of one row in floats; rows add up in doubles.
    Quad sum{0, 0, 0, 0};
    for (int64_t column = 0; column < p.width; ++column) {
      const int64_t k = 8 * column;
      const Quad mean = 0.25f * (sample(upper + k) + sample(upper + k + 4) + sample(lower + k) + sample(lower + k + 4));
      std::memcpy(out + 4 * column, &mean, sizeof mean);
      sum += mean;
    }
    for (int c = 0; c < 4; ++c) sums[c] += sum[c];
  }
  std::copy_n(sums, 4, p.sums);
}

void synth_compose(const SynthComposeParams& p) {
  for (int64_t i = 0; i < p.pixels; ++i) {
    const float* in = p.picture + 4 * i;
    const float through = 1.0f - in[3];
    for (int c = 0; c < 3; ++c) p.light[3 * i + c] = in[c] * p.exposure + p.linear[p.behind[3 * i + c]] * through;
    p.coverage[i] = uint8_t(std::min(std::max(in[3] * 255.0f + 0.5f, 0.0f), 255.0f));
  }
}

void synth_develop(const SynthDevelopParams& p) {
  const float last = float(p.levels - 1), per_light = last * last / p.range;
  // Row by row and step by step, so that every step runs in vectors over a row's values [width, 3].
  const int64_t count = 3 * p.width;
  const std::unique_ptr<float[]> room(new float[4 * count + p.width]);
  float *gain = room.get(), *squared = gain + count, *value = squared + count, *grain = value + count,
        *gray = grain + count;
  for (int64_t i = 0; i < count; ++i) {
    const float x = (2.0f * float(i / 3) + 1.0f) / float(p.width) - 1.0f - p.centre_x;
    gain[i] = p.gain[i % 3];
    squared[i] = x * x;
    grain[i] = 0.0f;
  }
  for (int64_t row = 0; row < p.height; ++row) {
    const float y = (2.0f * float(row) + 1.0f) / float(p.height) - 1.0f - p.centre_y;
    const float* light = p.light + row * count;
    for (int64_t i = 0; i < count; ++i) {
      const float arriving = std::max(1.0f - p.falloff * (squared[i] + y * y), 0.2f);
      const float place =
          std::min(std::sqrt(std::max(0.0f, (light[i] * gain[i] * arriving + p.stray) * per_light)), last);
      const int32_t level = std::min(int32_t(place), int32_t(p.levels - 2));
      value[i] = p.curve[level] + (place - float(level)) * (p.curve[level + 1] - p.curve[level]);
    }
    if (p.gray != 0.0f) {
      for (int64_t k = 0; k < p.width; ++k)
        gray[k] = 0.3f * value[3 * k] + 0.59f * value[3 * k + 1] + 0.11f * value[3 * k + 2];
      for (int64_t k = 0; k < p.width; ++k)
        for (int c = 0; c < 3; ++c) value[3 * k + c] += (gray[k] - value[3 * k + c]) * p.gray;
    }
    if (p.noise) {
      const float* noise = p.noise + row * count;
      for (int64_t k = 0; k < p.width; ++k)
        for (int c = 0; c < 3; ++c) grain[3 * k + c] = p.own * noise[3 * k + c] + p.shared * noise[3 * k];
    }
    uint8_t* out = p.picture + row * count;
    for (int64_t i = 0; i < count; ++i)
      out[i] = uint8_t(int32_t(std::min(std::max(value[i] + grain[i] + 0.5f, 0.0f), 255.0f)));
  }
}

void synth_blur(const SynthBlurParams& p) {
  const int64_t count = 3 * p.width, side = 3 * p.radius;
  // Down the columns first, for all rows, since the picture may be written over.
  const std::unique_ptr<float[]> room(new float[(p.height + 1) * count + 2 * side]);
  float *down = room.get(), *line = down + p.height * count;
  for (int64_t row = 0; row < p.height; ++row) {
    float* sum = down + row * count;
    const uint8_t* middle = p.picture + row * count;
    for (int64_t i = 0; i < count; ++i) sum[i] = p.kernel[0] * float(middle[i]);
    for (int64_t k = 1; k <= p.radius; ++k) {
      const float weight = p.kernel[k];
      const uint8_t* above = p.picture + std::max<int64_t>(row - k, 0) * count;
      const uint8_t* below = p.picture + std::min(row + k, p.height - 1) * count;
      for (int64_t i = 0; i < count; ++i) sum[i] += weight * float(above[i] + below[i]);
    }
  }
  for (int64_t row = 0; row < p.height; ++row) {
    float *sum = down + row * count, *here = line + side;
    std::copy_n(sum, count, here);
    for (int64_t i = 0; i < side; ++i) {
      line[i] = sum[i % 3];
      here[count + i] = sum[count - 3 + i % 3];
    }
    for (int64_t i = 0; i < count; ++i) sum[i] *= p.kernel[0];
    for (int64_t k = 1; k <= p.radius; ++k) {
      const float weight = p.kernel[k];
      const float *before = here - 3 * k, *after = here + 3 * k;
      for (int64_t i = 0; i < count; ++i) sum[i] += weight * (before[i] + after[i]);
    }
    const uint8_t* in = p.picture + row * count;
    uint8_t* out = p.out + row * count;
    const float own = p.sharpen > 0.0f ? 1.0f + p.sharpen : 0.0f, blurred = p.sharpen > 0.0f ? -p.sharpen : 1.0f;
    for (int64_t i = 0; i < count; ++i) {
      const float value = own * float(in[i]) + blurred * sum[i] + 0.5f;
      out[i] = uint8_t(int32_t(std::min(std::max(value, 0.0f), 255.0f)));
    }
  }
}

}  // namespace GARFAST_ISA
}  // namespace garfast

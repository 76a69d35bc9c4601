// From a shaded frame to a picture: means of samples, what is behind, the tone curve.
#include <algorithm>
#include <cmath>

#include "garfast/synth.h"

namespace garfast {
namespace GARFAST_ISA {

void synth_resolve(const SynthResolveParams& p) {
  double sums[4] = {0, 0, 0, 0};
  const int64_t stride = 8 * p.width;
  for (int64_t row = 0; row < p.height; ++row) {
    const float *upper = p.frame + 2 * row * stride, *lower = upper + stride;
    float* out = p.picture + row * p.width * 4;
    // Sums of one row in floats, so that the loop runs in vectors; rows add up in doubles.
    float sum[4] = {0, 0, 0, 0};
    for (int64_t column = 0; column < p.width; ++column)
      for (int c = 0; c < 4; ++c) {
        const int64_t k = 8 * column + c;
        const float mean = 0.25f * (upper[k] + upper[k + 4] + lower[k] + lower[k + 4]);
        out[4 * column + c] = mean;
        sum[c] += mean;
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
  for (int64_t row = 0; row < p.height; ++row) {
    const float y = (2.0f * float(row) + 1.0f) / float(p.height) - 1.0f - p.centre_y;
    for (int64_t column = 0; column < p.width; ++column) {
      const int64_t i = 3 * (row * p.width + column);
      const float x = (2.0f * float(column) + 1.0f) / float(p.width) - 1.0f - p.centre_x;
      const float arriving = std::max(1.0f - p.falloff * (x * x + y * y), 0.2f);
      float value[3];
      for (int c = 0; c < 3; ++c) {
        const float light = p.light[i + c] * p.gain[c] * arriving + p.stray;
        const float place = std::min(std::sqrt(std::max(0.0f, light * per_light)), last);
        const int32_t level = std::min(int32_t(place), int32_t(p.levels - 2));
        value[c] = p.curve[level] + (place - float(level)) * (p.curve[level + 1] - p.curve[level]);
      }
      const float gray = 0.3f * value[0] + 0.59f * value[1] + 0.11f * value[2];
      for (int c = 0; c < 3; ++c) {
        float v = value[c] + (gray - value[c]) * p.gray;
        if (p.noise) v += p.own * p.noise[i + c] + p.shared * p.noise[i];
        p.picture[i + c] = uint8_t(std::min(std::max(v + 0.5f, 0.0f), 255.0f));
      }
    }
  }
}

}  // namespace GARFAST_ISA
}  // namespace garfast

// From a shaded frame to a picture: means of samples, what is behind, the tone curve.
#include <algorithm>

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

void synth_tone(const SynthToneParams& p) {
  const float last = float(p.levels - 1), per_light = last / p.range;
  const float gain[3] = {p.gain[0] * per_light, p.gain[1] * per_light, p.gain[2] * per_light};
  for (int64_t i = 0; i < p.pixels; ++i)
    for (int c = 0; c < 3; ++c)
      p.out[3 * i + c] = p.curve[int32_t(std::min(std::max(0.0f, p.light[3 * i + c] * gain[c]), last))];
}

}  // namespace GARFAST_ISA
}  // namespace garfast

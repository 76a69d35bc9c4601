#include "garfast/modulated_conv2d.h"

#include "epilogue.h"
#include "fir_rows.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

// Below this many elements starting threads costs more than it saves.
constexpr int64_t kSerial = 8192;

// One line of the image in channels_last: a row of the epilogue for every pixel.
template <typename S>
void finish_pixels(const BlurEpilogueParams<S>& p, LaneTerms<accumulate_t<S>>& lane, int64_t sample, int64_t line,
                   int64_t channel, int64_t n, const accumulate_t<S>* f, accumulate_t<S>* scratch) {
  using A = accumulate_t<S>;
  const int64_t width = p.blur.out_width, channels = p.shape.channels;
  lane.load(p.shape, p.terms, sample, channel, n);
  for (int64_t column = 0; column < width; ++column) {
    const int64_t pixel = line * width + column, offset = (sample * p.shape.pixels + pixel) * channels + channel;
    const A *scale, *shift;
    lane.at_row(p.shape, p.terms, sample, pixel, channel, n, &scale, &shift);
    A* y = write_row(p.y + offset, scratch);
    epilogue_row(f + column * n, scale, shift, row_terms(p.shape, p.terms, sample, pixel), p.terms, y, n);
    finish_row(y, p.y + offset, n);
    if (p.blur.y) narrow_row(f + column * n, p.blur.y + offset, n);
  }
}

template <typename S>
void run(const BlurEpilogueParams<S>& p) {
  using A = accumulate_t<S>;
  const Upfirdn2dParams<S>& b = p.blur;
  const int64_t blocks = (b.inner + kFirLanes - 1) / kFirLanes, tasks = b.outer * blocks * b.out_height;
#pragma omp parallel num_threads(p.num_threads) if (tasks > 1 && tasks * b.out_width * b.inner / blocks > kSerial)
  {
    FirRows<S> fir(b.fir, b.width, b.inner, b.out_width);
    const int64_t longest = p.shape.channels_last ? fir.lanes() : b.out_width;
    Scratch<A> f(b.out_width * fir.lanes()), scratch(longest);
    LaneTerms<A> lane(longest);
#pragma omp for schedule(static) collapse(3)
    for (int64_t outer = 0; outer < b.outer; ++outer)
      for (int64_t block = 0; block < blocks; ++block)
        for (int64_t line = 0; line < b.out_height; ++line) {
          const int64_t first = block * kFirLanes, n = b.inner - first < kFirLanes ? b.inner - first : kFirLanes;
          fir.row(b.x + outer * b.height * b.width * b.inner, b.height, line, first, n, f.data());
          if (p.shape.channels_last)
            finish_pixels(p, lane, outer, line, first, n, f.data(), scratch.data());
          else
            finish_line(p.shape, p.terms, lane, outer, line, b.out_width, f.data(), scratch.data(), p.y, b.y);
        }
  }
}

}  // namespace

void blur_epilogue(const BlurEpilogueParams<float>& p) { run(p); }
void blur_epilogue(const BlurEpilogueParams<double>& p) { run(p); }
void blur_epilogue(const BlurEpilogueParams<Half>& p) { run(p); }
void blur_epilogue(const BlurEpilogueParams<BFloat16>& p) { run(p); }

}  // namespace GARFAST_ISA
}  // namespace garfast

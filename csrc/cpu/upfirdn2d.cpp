#include "garfast/upfirdn2d.h"

#include "fir_rows.h"

namespace garfast {
namespace GARFAST_ISA {
namespace {

// Below this many elements starting threads costs more than it saves.
constexpr int64_t kSerial = 8192;

template <typename S>
void run(const Upfirdn2dParams<S>& p) {
  using A = accumulate_t<S>;
  const int64_t blocks = (p.inner + kFirLanes - 1) / kFirLanes, tasks = p.outer * blocks * p.out_height;
#pragma omp parallel num_threads(p.num_threads) if (tasks > 1 && tasks * p.out_width * p.inner / blocks > kSerial)
  {
    FirRows<S> fir(p.fir, p.width, p.inner, p.out_width);
    Scratch<A> out(p.out_width * fir.lanes());
#pragma omp for schedule(static) collapse(3)
    for (int64_t outer = 0; outer < p.outer; ++outer)
      for (int64_t block = 0; block < blocks; ++block)
        for (int64_t row = 0; row < p.out_height; ++row) {
          const int64_t lane = block * kFirLanes, n = p.inner - lane < kFirLanes ? p.inner - lane : kFirLanes;
          const S* x = p.x + outer * p.height * p.width * p.inner;
          S* y = p.y + (outer * p.out_height + row) * p.out_width * p.inner + lane;
          if (n == p.inner) {
            A* to = write_row(y, out.data());
            fir.row(x, p.height, row, lane, n, to);
            finish_row(to, y, p.out_width * n);
          } else {
            fir.row(x, p.height, row, lane, n, out.data());
            for (int64_t i = 0; i < p.out_width; ++i) narrow_row(out.data() + i * n, y + i * p.inner, n);
          }
        }
  }
}

}  // namespace

void upfirdn2d(const Upfirdn2dParams<float>& p) { run(p); }
void upfirdn2d(const Upfirdn2dParams<double>& p) { run(p); }
void upfirdn2d(const Upfirdn2dParams<Half>& p) { run(p); }
void upfirdn2d(const Upfirdn2dParams<BFloat16>& p) { run(p); }

}  // namespace GARFAST_ISA
}  // namespace garfast

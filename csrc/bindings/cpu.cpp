// garfast._cpu: the CPU kernels behind plain functions of addresses and sizes. Python checks and allocates.
#include <stdexcept>
#include <string>
#include <vector>

#ifdef GARFAST_HAVE_AVX2
#include <cpuid.h>
#endif

#include "cpu_bindings.h"
#include "garfast/index_range.h"
#include "garfast/isa.h"
#include "pointers.h"

namespace garfast {

#ifdef GARFAST_HAVE_AVX2
namespace {
// Whether a bit of what CPUID says in ecx is set. Not all compilers' __builtin_cpu_supports know these features.
bool cpuid_bit(unsigned leaf, int bit) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(leaf, &eax, &ebx, &ecx, &edx) && (ecx >> bit & 1);
}
}  // namespace
#endif

Isa best_isa() {
#ifdef GARFAST_HAVE_AVX2
  static const Isa best = [] {
    __builtin_cpu_init();
    const bool f16c = cpuid_bit(1, 29), lzcnt = cpuid_bit(0x80000001, 5);
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                      __builtin_cpu_supports("popcnt") && f16c && lzcnt;
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    return avx512 ? Isa::kAvx512 : avx2 ? Isa::kAvx2 : Isa::kBaseline;
  }();
  return best;
#else
  return Isa::kBaseline;
#endif
}

namespace {
Isa& chosen_isa() {
  static Isa isa = best_isa();
  return isa;
}
const std::vector<std::string> kIsaNames{"baseline", "avx2", "avx512"};
}  // namespace

Isa current_isa() { return chosen_isa(); }
void set_isa(Isa isa) { chosen_isa() = isa; }

}  // namespace garfast

PYBIND11_MODULE(_cpu, m) {
  using namespace garfast;
  m.doc() = "CPU kernels of garfast.ops: functions of addresses and sizes; use garfast.ops instead.";
  m.def("isa", [] { return kIsaNames[int(current_isa())]; }, "The instruction set in use.");
  m.def(
      "isas",
      [] {
        py::list names;
        for (int i = 0; i <= int(best_isa()); ++i) names.append(kIsaNames[i]);
        return names;
      },
      "The instruction sets that this build has and this machine can run, best last.");
  m.def(
      "set_isa",
      [](const std::string& name) {
        for (int i = 0; i <= int(best_isa()); ++i)
          if (kIsaNames[i] == name) return set_isa(Isa(i));
        throw std::invalid_argument("this machine or build has no instruction set '" + name + "'");
      },
      "Choose an instruction set for every later call (tests and benchmarks).");
  m.def(
      "indices_inside",
      [](std::uintptr_t indices, int64_t count, int32_t limit) {
        bool inside = false;
        GARFAST_CALL_CPU(index_range, IndexRangeParams{in<int32_t>(indices), count, limit, &inside});
        return inside;
      },
      "Whether `count` int32 indices at an address all lie in [0, limit).");
#ifdef _OPENMP
  m.attr("openmp") = true;
#else
  m.attr("openmp") = false;
#endif
  m.attr("compiler") = __VERSION__;
  bind_conv_planes(m);
  bind_modulated_conv2d(m);
  bind_antialias_normals(m);
  bind_noise_bias_act(m);
  bind_upfirdn2d(m);
  bind_rasterize_normals(m);
  bind_vertex_normals(m);
  bind_synth(m);
}

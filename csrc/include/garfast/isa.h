// Instruction-set variants of the CPU kernels.
//
// A kernel source in csrc/cpu is compiled once per instruction set with -DGARFAST_ISA=baseline|avx2|avx512 and defines
//     namespace garfast { namespace GARFAST_ISA { void name(const Params&); } }
// Its header declares it for all of them with GARFAST_DECLARE_CPU(name, Params). A binding calls
//     GARFAST_CALL_CPU(name, params);
// which runs the best variant this machine has (or the one chosen with set_isa).
//
// Shared math in headers must live in the same namespace, `GARFAST_MATH_BEGIN ... GARFAST_MATH_END`: were an inline
// function the same symbol in every variant, the linker would keep one of them, perhaps one that this CPU cannot run.
#pragma once

#ifndef GARFAST_ISA
#define GARFAST_ISA baseline
#endif

#if defined(__CUDACC__)
#define GARFAST_HD __host__ __device__ __forceinline__
#else
#define GARFAST_HD inline
#endif

#define GARFAST_MATH_BEGIN \
  namespace garfast {      \
  namespace GARFAST_ISA {
#define GARFAST_MATH_END \
  }                      \
  }

#define GARFAST_DECLARE_CPU(name, Params) \
  namespace baseline {                    \
  void name(const Params&);               \
  }                                       \
  namespace avx2 {                        \
  void name(const Params&);               \
  }                                       \
  namespace avx512 {                      \
  void name(const Params&);               \
  }

namespace garfast {

enum class Isa { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

// The variant in use: best_isa() until set_isa() is called.
Isa current_isa();
Isa best_isa();
void set_isa(Isa isa);

}  // namespace garfast

#ifdef GARFAST_HAVE_AVX2
#define GARFAST_CALL_CPU(name, ...)             \
  do {                                          \
    switch (::garfast::current_isa()) {         \
      case ::garfast::Isa::kAvx512:             \
        ::garfast::avx512::name(__VA_ARGS__);   \
        break;                                  \
      case ::garfast::Isa::kAvx2:               \
        ::garfast::avx2::name(__VA_ARGS__);     \
        break;                                  \
      default:                                  \
        ::garfast::baseline::name(__VA_ARGS__); \
    }                                           \
  } while (0)
#else
#define GARFAST_CALL_CPU(name, ...) ::garfast::baseline::name(__VA_ARGS__)
#endif

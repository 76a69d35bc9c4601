// Whether all of many indices lie in [0, limit): a check that costs little beside what it guards.
#pragma once

#include <cstdint>

#include "garfast/isa.h"

namespace garfast {

struct IndexRangeParams {
  const int32_t* indices;  // [count]
  int64_t count;
  int32_t limit;
  bool* inside;  // out
};

GARFAST_DECLARE_CPU(index_range, IndexRangeParams)

}  // namespace garfast

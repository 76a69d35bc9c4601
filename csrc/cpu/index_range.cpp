#include "garfast/index_range.h"

namespace garfast {
namespace GARFAST_ISA {

void index_range(const IndexRangeParams& p) {
  // As unsigned numbers, negative ones are large too: one comparison serves both ends.
  uint32_t largest = 0;
  for (int64_t i = 0; i < p.count; ++i) {
    const uint32_t index = uint32_t(p.indices[i]);
    largest = index > largest ? index : largest;
  }
  *p.inside = p.count == 0 || largest < uint32_t(p.limit);
}

}  // namespace GARFAST_ISA
}  // namespace garfast

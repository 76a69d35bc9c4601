// Python passes addresses as integers; this turns them into typed pointers.
#pragma once

#include <cstdint>

namespace garfast {

using Address = std::uintptr_t;

template <typename T>
const T* in(Address address) {
  return reinterpret_cast<const T*>(address);
}

template <typename T>
T* out(Address address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace garfast

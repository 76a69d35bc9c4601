// Python passes addresses as integers; this turns them into typed pointers.
#pragma once

#include <cstdint>

namespace garfast {

template <typename T>
const T* in(std::uintptr_t address) {
  return reinterpret_cast<const T*>(address);
}

template <typename T>
T* out(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace garfast

// Three-vectors for host and device.
#pragma once

#include "garfast/isa.h"

GARFAST_MATH_BEGIN

template <typename T>
struct Vec3 {
  T x, y, z;
};

template <typename T>
GARFAST_HD Vec3<T> load3(const T* p) {
  return {p[0], p[1], p[2]};
}

template <typename T>
GARFAST_HD void store3(T* p, Vec3<T> v) {
  p[0] = v.x;
  p[1] = v.y;
  p[2] = v.z;
}

template <typename T>
GARFAST_HD Vec3<T> operator+(Vec3<T> a, Vec3<T> b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}

template <typename T>
GARFAST_HD Vec3<T> operator-(Vec3<T> a, Vec3<T> b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}

template <typename T>
GARFAST_HD Vec3<T> operator*(Vec3<T> a, T s) {
  return {a.x * s, a.y * s, a.z * s};
}

template <typename T>
GARFAST_HD Vec3<T> cross(Vec3<T> a, Vec3<T> b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

template <typename T>
GARFAST_HD T dot(Vec3<T> a, Vec3<T> b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}

GARFAST_MATH_END

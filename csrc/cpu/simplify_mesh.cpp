// Edge collapses onto one of an edge's ends, by quadrics in as many dimensions as a vertex has numbers.
#include "garfast/simplify_mesh.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <queue>

namespace garfast {
namespace GARFAST_ISA {
namespace {

constexpr int32_t kGone = -1;
constexpr int kMostNeighbours = 24;  // vertices with more are left alone
constexpr double kMostTurned = 0.5;  // cosine of the angle by which a triangle may turn

struct Move {
  double cost;
  int32_t from, to, version;
  bool operator<(const Move& other) const {
    // The queue gives the largest; of equal costs the lower vertex, so that the result is always the same.
    return cost != other.cost ? cost > other.cost : from > other.from;
  }
};

struct Neighbours {
  int32_t at[kMostNeighbours];
  int count = 0;
  bool all = true;  // false if there are more
  bool has(int32_t vertex) const {
    bool found = false;
    for (int k = 0; k < count; ++k) found |= at[k] == vertex;
    return found;
  }
  void add(int32_t vertex) {
    if (has(vertex)) return;
    if (count == kMostNeighbours)
      all = false;
    else
      at[count++] = vertex;
  }
};

class Simplifier {
 public:
  explicit Simplifier(const SimplifyMeshParams& p)
      : p_(p),
        terms_(p.size * (p.size + 1) / 2 + p.size + 1),
        quadrics_(new double[p.num_vertices * terms_]()),
        first_(new int32_t[p.num_vertices]),
        last_(new int32_t[p.num_vertices]),
        next_(new int32_t[3 * p.num_triangles]),
        version_(new int32_t[p.num_vertices]()) {
    std::fill_n(first_.get(), p.num_vertices, kGone);
    std::fill_n(next_.get(), 3 * p.num_triangles, kGone);
    for (int32_t corner = 0; corner < 3 * p.num_triangles; ++corner) {
      const int32_t vertex = p.triangles[corner];
      (first_[vertex] == kGone ? first_[vertex] : next_[last_[vertex]]) = corner;
      last_[vertex] = corner;
    }
    add_planes();
  }

  void run() {
    for (int32_t v = 0; v < p_.num_vertices; ++v) offer(v);
    while (!moves_.empty()) {
      const Move move = moves_.top();
      moves_.pop();
      if (move.version == version_[move.from]) collapse(move.from, move.to);
    }
  }

 private:
  const SimplifyMeshParams& p_;
  const int64_t terms_;
  const std::unique_ptr<double[]> quadrics_;              // [V, terms]: upper triangle of A, b, c of x'Ax + 2b'x + c
  const std::unique_ptr<int32_t[]> first_, last_, next_;  // corners [F, 3] of each vertex, as lists
  const std::unique_ptr<int32_t[]> version_;              // of a vertex' offer; an older one does not count
  std::priority_queue<Move> moves_;

  const double* point(int32_t v) const { return p_.points + v * p_.size; }

  // The squared distance to the plane of each triangle, in all dimensions, for its corners.
  void add_planes() {
    const int64_t size = p_.size;
    const std::unique_ptr<double[]> axes(new double[2 * size]), plane(new double[terms_]);
    double *e = axes.get(), *g = e + size;
    for (int64_t f = 0; f < p_.num_triangles; ++f) {
      const int32_t* corners = p_.triangles + 3 * f;
      const double *a = point(corners[0]), *b = point(corners[1]), *d = point(corners[2]);
      for (int64_t i = 0; i < size; ++i) e[i] = b[i] - a[i], g[i] = d[i] - a[i];
      if (!normalise(e)) continue;
      const double along = product(e, g);
      for (int64_t i = 0; i < size; ++i) g[i] -= along * e[i];
      if (!normalise(g)) continue;
      const double ae = product(a, e), ag = product(a, g);
      double* out = plane.get();
      for (int64_t i = 0; i < size; ++i)
        for (int64_t j = i; j < size; ++j) *out++ = (i == j) - e[i] * e[j] - g[i] * g[j];
      for (int64_t i = 0; i < size; ++i) *out++ = ae * e[i] + ag * g[i] - a[i];
      *out = product(a, a) - ae * ae - ag * ag;
      for (int k = 0; k < 3; ++k) {
        double* sum = quadrics_.get() + corners[k] * terms_;
        for (int64_t i = 0; i < terms_; ++i) sum[i] += plane[i];
      }
    }
  }

  double product(const double* a, const double* b) const {
    double sum = 0.0;
    for (int64_t i = 0; i < p_.size; ++i) sum += a[i] * b[i];
    return sum;
  }

  bool normalise(double* x) const {
    const double length = std::sqrt(product(x, x));
    if (!(length > 1e-9)) return false;
    for (int64_t i = 0; i < p_.size; ++i) x[i] /= length;
    return true;
  }

  // What it costs to have one vertex' planes pass through another.
  double cost(int32_t from, int32_t to) const {
    const double *q = quadrics_.get() + from * terms_, *x = point(to);
    double sum = 0.0;
    for (int64_t i = 0; i < p_.size; ++i) {
      double row = 0.5 * *q++ * x[i];
      for (int64_t j = i + 1; j < p_.size; ++j) row += *q++ * x[j];
      sum += x[i] * row;
    }
    return 2.0 * (sum + product(q, x)) + q[p_.size];
  }

  template <typename F>
  void visit(int32_t vertex, F&& see) const {
    for (int32_t corner = first_[vertex]; corner != kGone; corner = next_[corner])
      if (p_.triangles[corner] != kGone) see(corner);
  }

  Neighbours around(int32_t vertex) const {
    Neighbours out;
    visit(vertex, [&](int32_t corner) {
      const int32_t triangle = corner / 3 * 3, k = corner % 3;
      out.add(p_.triangles[triangle + (k + 1) % 3]);
      out.add(p_.triangles[triangle + (k + 2) % 3]);
    });
    return out;
  }

  // Offers the cheapest move of a vertex that leaves the surface whole.
  void offer(int32_t vertex) {
    ++version_[vertex];
    if (p_.fixed[vertex] || first_[vertex] == kGone) return;
    const Neighbours ring = around(vertex);
    if (!ring.all) return;
    Move best{p_.tolerance * p_.tolerance, vertex, kGone, version_[vertex]};
    for (int k = 0; k < ring.count; ++k) {
      const double price = std::max(cost(vertex, ring.at[k]), 0.0);
      if (price <= best.cost && allowed(vertex, ring.at[k], ring)) best.cost = price, best.to = ring.at[k];
    }
    if (best.to != kGone) moves_.push(best);
  }

  bool allowed(int32_t from, int32_t to, const Neighbours& ring) const {
    const double* x = point(to);
    for (int k = 0; k < ring.count; ++k) {
      const double* y = point(ring.at[k]);
      double squared = 0.0;
      for (int i = 0; i < 3; ++i) squared += (x[i] - y[i]) * (x[i] - y[i]);
      if (squared > p_.longest * p_.longest) return false;
    }
    // More than the two neighbours across the edge in common: the surface would touch itself.
    const Neighbours other = around(to);
    int common = 0;
    for (int k = 0; k < other.count; ++k) common += ring.has(other.at[k]);
    if (!other.all || common != 2) return false;
    bool fine = true;
    visit(from, [&](int32_t corner) {
      const int32_t triangle = corner / 3 * 3, k = corner % 3;
      const int32_t b = p_.triangles[triangle + (k + 1) % 3], d = p_.triangles[triangle + (k + 2) % 3];
      for (int64_t pose = 0; fine && b != to && d != to && pose < p_.num_poses; ++pose)
        fine = !turns(point(from) + 3 * pose, x + 3 * pose, point(b) + 3 * pose, point(d) + 3 * pose);
    });
    return fine;
  }

  static bool turns(const double* before, const double* after, const double* b, const double* d) {
    double n[3], m[3];
    normal(before, b, d, n);
    normal(after, b, d, m);
    const double nm = n[0] * m[0] + n[1] * m[1] + n[2] * m[2];
    const double nn = n[0] * n[0] + n[1] * n[1] + n[2] * n[2], mm = m[0] * m[0] + m[1] * m[1] + m[2] * m[2];
    return !(nm > kMostTurned * std::sqrt(nn * mm));
  }

  static void normal(const double* a, const double* b, const double* d, double* out) {
    const double u[3] = {b[0] - a[0], b[1] - a[1], b[2] - a[2]}, v[3] = {d[0] - a[0], d[1] - a[1], d[2] - a[2]};
    for (int i = 0; i < 3; ++i) out[i] = u[(i + 1) % 3] * v[(i + 2) % 3] - u[(i + 2) % 3] * v[(i + 1) % 3];
  }

  void collapse(int32_t from, int32_t to) {
    visit(from, [&](int32_t corner) {
      int32_t* triangle = p_.triangles + corner / 3 * 3;
      if (triangle[0] == to || triangle[1] == to || triangle[2] == to)
        std::fill_n(triangle, 3, kGone);
      else
        p_.triangles[corner] = to;
    });
    next_[last_[to]] = first_[from];
    last_[to] = last_[from];
    first_[from] = kGone;
    ++version_[from];
    double *sum = quadrics_.get() + to * terms_, *given = quadrics_.get() + from * terms_;
    for (int64_t i = 0; i < terms_; ++i) sum[i] += given[i];
    const Neighbours ring = around(to);
    for (int k = 0; k < ring.count; ++k) offer(ring.at[k]);
    offer(to);
  }
};

}  // namespace

void simplify_mesh(const SimplifyMeshParams& p) { Simplifier(p).run(); }

}  // namespace GARFAST_ISA
}  // namespace garfast

// The threads of a block as fibers; see include/cuda_runtime.h.
#include <cuda_runtime.h>
#include <ucontext.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <random>
#include <vector>

namespace cuda_host {

uint3 thread_index, block_index;
dim3 block_size, grid_size;
char* dynamic_shared = nullptr;

namespace {

constexpr size_t kStackBytes = 128 * 1024;

enum class State { kReady, kAtBarrier, kInWarp, kDone };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  State state = State::kReady;
  uint3 index{};
  bool predicate = false;
  unsigned mask = 0;
};

struct Warp {
  uint64_t given[32];
  uint64_t seen[32];  // copied when the last lane arrives, so that a fast lane's next value disturbs nobody
};

std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Warp> warps;
ucontext_t scheduler;
size_t current = 0;
Votes votes{};
const std::function<void()>* body = nullptr;
std::exception_ptr failure;

void enter() {
  try {
    (*body)();
  } catch (...) {
    failure = std::current_exception();
  }
  fibers[current]->state = State::kDone;
  swapcontext(&fibers[current]->context, &scheduler);
}

void wait(State state) {
  fibers[current]->state = state;
  swapcontext(&fibers[current]->context, &scheduler);
}

// Lets the warp collectives of one warp, or the block barrier, go on whose threads have all arrived; false if none has.
// The same warp goes first until it waits at a barrier: warps that run as far apart as they may show a missing one.
bool release(size_t threads, size_t favourite) {
  const size_t count = (threads + 31) / 32;
  for (size_t w = 0; w < count; ++w) {
    const size_t first = (favourite + w) % count * 32;
    bool released = false;
    const size_t lanes = std::min<size_t>(32, threads - first);
    for (size_t i = 0; i < lanes; ++i) {
      if (fibers[first + i]->state != State::kInWarp) continue;
      const unsigned mask = fibers[first + i]->mask;
      bool complete = true;
      for (size_t j = 0; j < lanes; ++j)
        if (mask >> j & 1) complete &= fibers[first + j]->state == State::kInWarp && fibers[first + j]->mask == mask;
      if (!complete) continue;
      Warp& warp = warps[first / 32];
      for (size_t j = 0; j < lanes; ++j)
        if (mask >> j & 1) {
          warp.seen[j] = warp.given[j];
          fibers[first + j]->state = State::kReady;
        }
      released = true;
    }
    if (released) return true;
  }
  int arrived = 0, live = 0;
  Votes next{true, false, 0};
  for (size_t i = 0; i < threads; ++i) {
    live += fibers[i]->state != State::kDone;
    if (fibers[i]->state != State::kAtBarrier) continue;
    ++arrived;
    next.all &= fibers[i]->predicate;
    next.any |= fibers[i]->predicate;
    next.count += fibers[i]->predicate;
  }
  // A thread that has returned counts as absent, as on the device.
  if (arrived == 0 || arrived < live) return false;
  votes = next;
  for (size_t i = 0; i < threads; ++i)
    if (fibers[i]->state == State::kAtBarrier) fibers[i]->state = State::kReady;
  return true;
}

void run_block(size_t threads, std::mt19937& random) {
  std::vector<size_t> order(threads);
  const size_t favourite = random();
  for (size_t i = 0; i < threads; ++i) {
    order[i] = i;
    Fiber& fiber = *fibers[i];
    fiber.state = State::kReady;
    fiber.index = {unsigned(i % block_size.x), unsigned(i / block_size.x % block_size.y),
                   unsigned(i / (size_t(block_size.x) * block_size.y))};
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
  }
  for (;;) {
    std::shuffle(order.begin(), order.end(), random);
    size_t done = 0;
    for (size_t i : order) {
      if (fibers[i]->state == State::kReady) {
        current = i;
        thread_index = fibers[i]->index;
        swapcontext(&scheduler, &fibers[i]->context);
        if (failure) return;
      }
      done += fibers[i]->state == State::kDone;
    }
    if (done == threads) return;
    const bool ready =
        std::any_of(order.begin(), order.end(), [](size_t i) { return fibers[i]->state == State::kReady; });
    if (!ready && !release(threads, favourite))
      throw std::runtime_error(
          "deadlock: some threads of a block wait at a barrier or warp collective that others never reach");
  }
}

}  // namespace

void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel) {
  static std::mt19937 random(12345);
  const size_t threads = size_t(block.x) * block.y * block.z;
  if (threads == 0 || threads > 1024) throw std::runtime_error("a block must have 1 to 1024 threads");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535)
    throw std::runtime_error("a grid must have 1 to 2^31-1 x 65535 x 65535 blocks");
  while (fibers.size() < threads) fibers.push_back(std::make_unique<Fiber>());
  warps.resize((threads + 31) / 32);
  std::vector<char> shared(shared_bytes + 16);
  dynamic_shared = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(shared.data()) + 15) & ~uintptr_t(15));
  block_size = block;
  grid_size = grid;
  body = &kernel;
  failure = nullptr;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        block_index = {x, y, z};
        std::fill(shared.begin(), shared.end(), char(0xff));
        run_block(threads, random);
        if (failure) std::rethrow_exception(failure);
      }
}

Votes block_barrier(bool predicate) {
  fibers[current]->predicate = predicate;
  wait(State::kAtBarrier);
  return votes;
}

unsigned lane() {
  const uint3& t = thread_index;
  return (t.x + block_size.x * (t.y + block_size.y * t.z)) % 32;
}

const uint64_t* warp_exchange(unsigned mask, uint64_t value) {
  const size_t me = current, threads = size_t(block_size.x) * block_size.y * block_size.z;
  const size_t lanes = std::min<size_t>(32, threads - me / 32 * 32);
  if (!(mask >> (me % 32) & 1)) throw std::runtime_error("a warp collective was called by a lane outside its mask");
  fibers[me]->mask = lanes == 32 ? mask : mask & ((1u << lanes) - 1);
  warps[me / 32].given[me % 32] = value;
  wait(State::kInWarp);
  return warps[me / 32].seen;
}

}  // namespace cuda_host

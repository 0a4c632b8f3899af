// The machine: blocks run one after the other, the threads of a block are fibres on one thread of the CPU. The blocks of a
// cluster take turns: each runs up to its next wait for the others, and its memory is put aside meanwhile.
//
// A warp runs as far as it can, lane by lane, before the next one starts: this is the largest skew between threads that
// barriers allow, so what lacks a barrier sees memory that was not yet written. The order of lanes, warps and blocks is
// forward, reverse or random. Memory of the block is 0xFF (NaN) before each block. Buffers are allocations of exactly
// their size, which the address sanitizer guards.
//
// Usage: PROGRAM unit job result. The unit is a shared library with kernels, so that this program is linked once. The job
// says what to launch (`read_job`); the result is the memory of all buffers.
#include "gpu.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

extern "C" {
void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));
// Fibres are unknown to the sanitizer; it must not move their variables to stacks of its own.
const char* __asan_default_options() {
  return "detect_stack_use_after_return=0:detect_leaks=0:exitcode=71:use_sigaltstack=1:handle_sigill=1:handle_sigfpe=1";
}
const char* __ubsan_default_options() { return "halt_on_error=1:exitcode=71"; }

// Saves what a call keeps on the stack, stores the stack in `*from`, and goes on with the stack `to`.
void gpu_switch(void** from, void* to);
}

#if defined(__x86_64__)
asm(R"(
.text
.globl gpu_switch
gpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
const int saved_words = 6;  // below the return address
#elif defined(__aarch64__)
asm(R"(
.text
.globl gpu_switch
gpu_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp d8, d9, [sp, #80]
  stp d10, d11, [sp, #96]
  stp d12, d13, [sp, #112]
  stp d14, d15, [sp, #128]
  stp x29, x30, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp d8, d9, [sp, #80]
  ldp d10, d11, [sp, #96]
  ldp d12, d13, [sp, #112]
  ldp d14, d15, [sp, #128]
  ldp x29, x30, [sp, #144]
  add sp, sp, #160
  ret
)");
const int saved_words = 19;  // x30 is the last of twenty
#else
#error "fibres are written for x86-64 and aarch64"
#endif

namespace gpu {
Thread* self;
Dim block_index, block_size, grid_size;
}  // namespace gpu

namespace {

using namespace gpu;

const unsigned max_threads = 1024, max_cluster = 16;
const size_t stack_size = 128 << 10;
const unsigned time_limit_s = 120;

enum State { Ready, AtBarrier, AtCluster, InExchange, Ended };
enum Order { Forward, Reverse, Random };

struct Fibre : Thread {
  void* stack;
  State state;
  int line;               // where it waits
  const char* operation;  // of the exchange it waits in
  unsigned mask;
  bool arrived;  // and has not waited for the cluster yet
};

struct Warp {
  Word in[32], out[32];
  unsigned existing;
};

// Of the block that runs; those of the other blocks of its cluster follow in memory.
Fibre* fibres;
Warp* warps;
Fibre* all_fibres;
Warp* all_warps;
unsigned char* images[max_cluster];  // memory of the blocks of a cluster that do not run
unsigned cluster_size, rank;
unsigned thread_count, warp_count, warp_order[max_threads / 32];
void* scheduler;
const Entry* entry;
Launch launch;
Order order;
u64 random_state;
unsigned char *shared_begin, *shared_end;
void* dynamic_memory;
size_t dynamic_size;

unsigned random_number() {
  random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
  return unsigned(random_state >> 33);
}

Fibre& running() { return *static_cast<Fibre*>(self); }

// --- telling what went wrong -----------------------------------------------------------------------------------------

void where() {
  if (!self) return;
  const Dim &b = block_index, &t = self->index;
  fprintf(stderr, "in %s, block (%u, %u, %u), thread (%u, %u, %u)\n", entry->name, b.x, b.y, b.z, t.x, t.y, t.z);
}

void stop(const char* format, ...) {
  va_list values;
  va_start(values, format);
  vfprintf(stderr, format, values);
  va_end(values);
  fputc('\n', stderr);
  where();
  _exit(70);
}

void out_of_time(int) { stop("still running after %u s of processor time", time_limit_s); }

// Says of the threads `first..end` which wait where: one line for all that are in the same place.
void tell_places(unsigned first, unsigned end) {
  bool told[max_threads] = {};
  for (unsigned i = first; i < end; ++i) {
    if (told[i]) continue;
    const Fibre& f = fibres[i];
    if (f.state == Ended) fprintf(stderr, "  ended:");
    if (f.state == AtCluster) fprintf(stderr, "  waiting for the cluster in line %d:", f.line);
    if (f.state == AtBarrier) fprintf(stderr, "  at the barrier of line %d:", f.line);
    if (f.state == InExchange) fprintf(stderr, "  in %s of line %d, mask %#x:", f.operation, f.line, f.mask);
    unsigned count = 0;
    for (unsigned k = i; k < end; ++k) {
      const Fibre& g = fibres[k];
      if (g.state != f.state || g.line != f.line || (f.state == InExchange && g.mask != f.mask)) continue;
      told[k] = true;
      if (++count <= 4) fprintf(stderr, " (%u, %u, %u)", g.index.x, g.index.y, g.index.z);
    }
    fprintf(stderr, "%s %u threads\n", count > 4 ? " …" : "", count);
  }
}

void stop_with_places(const char* message, unsigned first, unsigned end) {
  fprintf(stderr, "%s\n", message);
  tell_places(first, end);
  self = &fibres[first];
  where();
  _exit(70);
}

// --- fibres ----------------------------------------------------------------------------------------------------------

void yield() { gpu_switch(&running().stack, scheduler); }

void fibre_main() {
  for (;;) {
    entry->run(launch);
    if (running().arrived) stop("a thread arrives, and ends without waiting for its cluster");
    running().state = Ended;
    running().line = 0;
    yield();
  }
}

void resume(Fibre& f) {
  self = &f;
  gpu_switch(&scheduler, f.stack);
}

// Stacks begin at different places of their pages, or all of them would compete for the same lines of the caches.
void make_fibres() {
  const size_t page = 16 << 10, stride = stack_size + page;
  const unsigned all = thread_count * cluster_size;
  all_fibres = static_cast<Fibre*>(calloc(all, sizeof(Fibre)));
  all_warps = static_cast<Warp*>(calloc(warp_count * cluster_size, sizeof(Warp)));
  void* memory = mmap(nullptr, stride * all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || !all_fibres || !all_warps) stop("no memory for %u stacks", all);
  for (unsigned k = 0; k < all; ++k) {
    const unsigned i = k % thread_count;
    char* base = static_cast<char*>(memory) + k * stride;
    mprotect(base, page, PROT_NONE);
    void** top = reinterpret_cast<void**>(base + stride - (i % 61) * 192 - 64);
    *--top = nullptr;  // what fibre_main would return to
    if (saved_words % 2) *--top = nullptr;
    *--top = reinterpret_cast<void*>(fibre_main);
    for (int k = 0; k < saved_words; ++k) *--top = nullptr;
    Fibre& f = all_fibres[k];
    f.stack = top;
    f.linear = i;
    f.lane = i % 32;
    f.index = {i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y};
    all_warps[k / thread_count * warp_count + i / 32].existing |= 1u << i % 32;
  }
  fibres = all_fibres;
  warps = all_warps;
}

// --- warps -----------------------------------------------------------------------------------------------------------

void run_lanes(unsigned warp) {
  unsigned factor = 1, start = 0;
  if (order == Reverse) factor = 31, start = 31;
  if (order == Random) factor = random_number() | 1, start = random_number();
  for (unsigned i = 0; i < 32; ++i) {
    unsigned lane = (i * factor + start) % 32, thread = warp * 32 + lane;
    if (thread < thread_count && fibres[thread].state == Ready) resume(fibres[thread]);
  }
}

// Completes each exchange to which all its lanes have come. Returns whether lanes can go on.
bool complete_exchanges(unsigned warp) {
  Fibre* lanes = &fibres[warp * 32];
  Warp& w = warps[warp];
  unsigned waiting = 0, ready = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((w.existing >> lane & 1) && lanes[lane].state == InExchange) waiting |= 1u << lane;
  }
  for (unsigned left = waiting; left;) {
    const Fibre& first = lanes[__builtin_ctz(left)];
    unsigned group = 0;
    for (unsigned lane = 0; lane < 32; ++lane) {
      const Fibre& f = lanes[lane];
      bool same = (left >> lane & 1) && f.mask == first.mask && f.line == first.line;
      if (same && !strcmp(f.operation, first.operation)) group |= 1u << lane;
    }
    if (group == first.mask) ready |= group;
    left &= ~group;
  }
  if (waiting && !ready) {
    unsigned end = warp * 32 + 32;
    stop_with_places("lanes of a warp do not come to the same exchange", warp * 32, end < thread_count ? end : thread_count);
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(ready >> lane & 1)) continue;
    w.out[lane] = w.in[lane];
    lanes[lane].state = Ready;
  }
  return ready != 0;
}

// All warps, up to the next barrier or the end.
void run_warps() {
  if (order != Random) {
    for (unsigned i = 0; i < warp_count; ++i) {
      unsigned warp = order == Reverse ? warp_count - 1 - i : i;
      do run_lanes(warp);
      while (complete_exchanges(warp));
    }
    return;
  }
  // Warps advance by one exchange at a time, some of them sooner than others.
  unsigned left = warp_count;
  for (unsigned i = 0; i < left; ++i) warp_order[i] = i;
  while (left) {
    unsigned i = random_number() % left, warp = warp_order[i];
    run_lanes(warp);
    if (!complete_exchanges(warp)) warp_order[i] = warp_order[--left];
  }
}

// --- blocks ----------------------------------------------------------------------------------------------------------

// The sanitizer forbids the gaps between arrays to memset, hence the loop that the compiler must not recognise.
void fill_shared() {
  volatile unsigned char* p = shared_begin;
  for (; p + 8 <= shared_end; p += 8) *reinterpret_cast<volatile u64*>(const_cast<unsigned char*>(p)) = ~0ull;
  for (; p < shared_end; ++p) *p = 0xff;
  memset(dynamic_memory, 0xff, dynamic_size);
}

// The block's threads go on to the end, or to where they wait for the cluster. Gives the state that all of them are in.
State run_block() {
  for (;;) {
    for (unsigned i = 0; i < thread_count; ++i) fibres[i].state = Ready;
    run_warps();
    bool together = true;
    for (unsigned i = 0; i < thread_count; ++i) {
      together &= fibres[i].line == fibres[0].line && fibres[i].state == fibres[0].state;
    }
    if (!together) stop_with_places("threads of a block do not come to the same barrier", 0, thread_count);
    if (fibres[0].state != AtBarrier) return fibres[0].state;
  }
}

// As fill_shared: the sanitizer must not see the gaps.
void copy_shared(volatile unsigned char* to, const volatile unsigned char* from) {
  for (size_t i = 0, size = shared_end - shared_begin; i < size; ++i) to[i] = from[i];
}

// The block that ran, if one did, leaves its memory, and the block of this rank comes with its own.
void enter(unsigned next, bool leaves) {
  const size_t size = shared_end - shared_begin;
  if (leaves) {
    copy_shared(images[rank], shared_begin);
    memcpy(images[rank] + size, dynamic_memory, dynamic_size);
  }
  rank = next;
  copy_shared(shared_begin, images[rank]);
  memcpy(dynamic_memory, images[rank] + size, dynamic_size);
  fibres = all_fibres + rank * thread_count;
  warps = all_warps + rank * warp_count;
}

// Each block in turn, up to where it waits for the others, until all have ended.
void run_cluster(u64 cluster) {
  for (unsigned i = 0; i < cluster_size; ++i) {
    if (cluster_size > 1) memset(images[i], 0xff, shared_end - shared_begin + dynamic_size);
    for (unsigned k = 0; k < thread_count; ++k) all_fibres[i * thread_count + k].state = Ready;
  }
  for (bool first = true;; first = false) {
    unsigned ended = 0, start = order == Random ? random_number() : 0;
    int line = 0;
    for (unsigned i = 0; i < cluster_size; ++i) {
      const unsigned next = order == Reverse ? cluster_size - 1 - i : (i + start) % cluster_size;
      if (cluster_size > 1) {
        enter(next, !first || i);
      } else if (first) {
        fill_shared();
      }
      const u64 block = cluster * cluster_size + next;
      block_index = {unsigned(block % grid_size.x), unsigned(block / grid_size.x % grid_size.y),
                     unsigned(block / grid_size.x / grid_size.y)};
      ended += run_block() == Ended;
      if (i == 0) line = fibres[0].line;
      if ((ended && ended != i + 1) || fibres[0].line != line) {
        stop_with_places("blocks of a cluster do not come to the same barrier", 0, thread_count);
      }
    }
    if (ended) return;
  }
}

u64 common_divisor(u64 a, u64 b) { return b ? common_divisor(b, a % b) : a; }

void run_grid() {
  u64 blocks = u64(grid_size.x) * grid_size.y * grid_size.z / cluster_size, factor = 1, start = 0;
  if (order == Random) {
    start = random_number() % blocks;
    do factor = 1 + random_number() % blocks;
    while (common_divisor(factor, blocks) != 1);
  }
  for (u64 i = 0; i < blocks; ++i) run_cluster(order == Reverse ? blocks - 1 - i : (i * factor + start) % blocks);
}

// --- jobs ------------------------------------------------------------------------------------------------------------

FILE* job;

u64 number() {
  u64 value = 0;
  if (fread(&value, sizeof value, 1, job) != 1) stop("the job is cut off");
  return value;
}

void read_bytes(void* memory, size_t size) {
  if (size && fread(memory, size, 1, job) != 1) stop("the job is cut off");
}

// An allocation that ends where the bytes end and begins `shift` bytes after a boundary of 256.
char* allocate(size_t size, size_t shift) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 256, size + shift)) stop("no memory for a buffer of %zu bytes", size);
  return static_cast<char*>(memory) + shift;
}

Dim read_dim() {
  Dim dim;
  dim.x = unsigned(number());
  dim.y = unsigned(number());
  dim.z = unsigned(number());
  if (!dim.x || !dim.y || !dim.z) stop("a grid or block without threads");
  return dim;
}

void* symbol(void* unit, const char* name) {
  void* found = dlsym(unit, name);
  if (!found) stop("the unit has no %s", name);
  return found;
}

// The first of the unit's entries.
const Entry* load_unit(const char* path) {
  void* unit = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!unit) stop("%s", dlerror());
  shared_begin = static_cast<unsigned char*>(symbol(unit, "gpu_shared_begin"));
  shared_end = static_cast<unsigned char*>(symbol(unit, "gpu_shared_end"));
  return static_cast<const Entry*>(symbol(unit, "gpu_entries"));
}

u64 sizes[256];

unsigned read_job(const char* path, const Entry* entries) {
  job = fopen(path, "rb");
  if (!job) stop("cannot read %s", path);
  static char name[256];
  u64 length = number();
  if (length >= sizeof name) stop("the name of the entry is too long");
  read_bytes(name, length);
  for (entry = entries; entry->name && strcmp(entry->name, name); ++entry) {
  }
  if (!entry->name) stop("no kernel is named %s", name);
  grid_size = read_dim();
  cluster_size = entry->cluster;
  if (cluster_size < 1 || cluster_size > max_cluster) stop("a cluster of %u blocks", cluster_size);
  if (grid_size.x % cluster_size) stop("%u blocks are no whole clusters of %u", grid_size.x, cluster_size);
  block_size = read_dim();
  if (u64(block_size.x) * block_size.y * block_size.z > max_threads) stop("a block of more than %u threads", max_threads);
  dynamic_size = number();
  dynamic_memory = allocate(dynamic_size, 0);
  for (unsigned i = 0; cluster_size > 1 && i < cluster_size; ++i) {
    images[i] = reinterpret_cast<unsigned char*>(allocate(shared_end - shared_begin + dynamic_size, 0));
  }
  order = Order(number());
  random_state = number();
  launch.args_size = unsigned(number());
  void* args = allocate(launch.args_size, 0);
  read_bytes(args, launch.args_size);
  launch.args = args;
  unsigned count = unsigned(number());
  if (count != entry->buffers) stop("%s takes %u buffers, got %u", name, entry->buffers, count);
  static void* buffers[256];
  if (count > 256) stop("more than 256 buffers");
  for (unsigned i = 0; i < count; ++i) {
    sizes[i] = number();
    buffers[i] = allocate(sizes[i], number());
    read_bytes(buffers[i], sizes[i]);
  }
  launch.buffers = buffers;
  fclose(job);
  return count;
}

}  // namespace

namespace gpu {

void fail(const char* message) { stop("%s", message); }

void* dynamic_shared() { return dynamic_memory; }

void barrier(int line) {
  running().state = AtBarrier;
  running().line = line;
  yield();
}

void arrive(int line) {
  if (running().arrived) stop("line %d: a thread arrives twice without waiting for its cluster", line);
  running().arrived = true;
}

void await(int line) {
  if (!running().arrived) stop("line %d: a thread waits for its cluster without arriving", line);
  running().state = AtCluster;
  running().line = line;
  yield();
  running().arrived = false;
}

void* remote(const void* p, unsigned of) {
  if (of >= cluster_size) stop("a read from block %u of a cluster of %u", of, cluster_size);
  const auto at = static_cast<const unsigned char*>(p), dynamic = static_cast<const unsigned char*>(dynamic_memory);
  const size_t size = shared_end - shared_begin;
  const bool fixed = at >= shared_begin && at < shared_end, launched = at >= dynamic && at < dynamic + dynamic_size;
  if (!fixed && !launched) stop("a read from another block of what is no memory of a block");
  if (of == rank) return const_cast<void*>(p);
  if (all_fibres[of * thread_count].state == Ended) stop("a read from block %u of the cluster, which has ended", of);
  return images[of] + (fixed ? at - shared_begin : size + (at - dynamic));
}

Lanes exchange(const char* operation, unsigned mask, Word value, int line) {
  Fibre& f = running();
  Warp& w = warps[f.linear / 32];
  mask &= w.existing;
  if (!(mask >> f.lane & 1)) stop("%s of line %d: lane %u is not in its own mask", operation, line, f.lane);
  w.in[f.lane] = value;
  f.state = InExchange;
  f.line = line;
  f.operation = operation;
  f.mask = mask;
  yield();
  return {w.out, mask};
}

}  // namespace gpu

int main(int count, char** arguments) {
  if (count != 4) stop("usage: PROGRAM unit job result");
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(where);
  // of its own time, as others may take most of the machine's
  signal(SIGPROF, out_of_time);
  itimerval limit = {{0, 0}, {time_limit_s, 0}};
  setitimer(ITIMER_PROF, &limit, nullptr);
  unsigned buffers = read_job(arguments[2], load_unit(arguments[1]));
  thread_count = block_size.x * block_size.y * block_size.z;
  warp_count = (thread_count + 31) / 32;
  make_fibres();
  run_grid();
  self = nullptr;
  FILE* result = fopen(arguments[3], "wb");
  if (!result) stop("cannot write %s", arguments[3]);
  for (unsigned i = 0; i < buffers; ++i) {
    if (sizes[i] && fwrite(launch.buffers[i], sizes[i], 1, result) != 1) stop("cannot write %s", arguments[3]);
  }
  if (fclose(result)) stop("cannot write %s", arguments[3]);
  return 0;
}

// The machine as a kernel sees it: who am I, barriers, exchange between the lanes of a warp. No system header is
// included, so that no name of the C library can stand in the way of a name in a kernel. gpu.cc is the other side.
#pragma once

namespace gpu {

typedef unsigned long long u64;

struct Dim {
  unsigned x, y, z;
};

struct Thread {
  Dim index;        // in its block
  unsigned linear;  // the same as one number, x fastest
  unsigned lane;    // in its warp of 32
};

extern Thread* self;  // the thread that runs
extern Dim block_index, block_size, grid_size;

// Returns when all threads of the block have come to the same line. A thread that ended, or waits elsewhere, is an error.
void barrier(int line);

// Clusters, blocks that run side by side: says that this thread is here; waits for all threads of the cluster to have said
// so; the place in the memory of another block that is `p` in this one's.
void arrive(int line);
void await(int line);
void* remote(const void* p, unsigned rank);

// What a lane hands over: up to 16 bytes.
struct Word {
  u64 lo, hi;
};

struct Lanes {
  const Word* values;  // of all 32 lanes, valid for `members`
  unsigned members;
};

// Returns when all lanes in `mask` that the block has are at the same operation in the same line with the same mask.
Lanes exchange(const char* operation, unsigned mask, Word value, int line);

// Ends the program; the message is told together with block and thread.
void fail(const char* message);

template <class T>
inline Word pack(T value) {
  static_assert(sizeof(T) <= sizeof(Word), "too large for an exchange between lanes");
  Word word = {0, 0};
  __builtin_memcpy(&word, &value, sizeof(T));
  return word;
}

template <class T>
inline T unpack(const Lanes& lanes, unsigned lane) {
  T value;
  if (lane < 32 && (lanes.members >> lane & 1)) {
    __builtin_memcpy(&value, &lanes.values[lane], sizeof(T));
  } else {
    __builtin_memset(&value, 0xff, sizeof(T));  // nobody there: hardware gives anything
  }
  return value;
}

// The lane read by the four shuffles, as PTX defines them for segments of `width` lanes. Outside of the segment: oneself.
inline unsigned from_index(int index, int width) {
  return (self->lane & ~unsigned(width - 1)) | (unsigned(index) & unsigned(width - 1));
}
inline unsigned from_up(unsigned delta, int width) {
  return (self->lane & unsigned(width - 1)) >= delta ? self->lane - delta : self->lane;
}
inline unsigned from_down(unsigned delta, int width) {
  return (self->lane & unsigned(width - 1)) + delta < unsigned(width) ? self->lane + delta : self->lane;
}
inline unsigned from_xor(unsigned mask, int width) {
  return (self->lane ^ mask) <= (self->lane | unsigned(width - 1)) ? self->lane ^ mask : self->lane;
}

template <class T>
inline T shuffle(const char* operation, unsigned mask, T value, unsigned from, int line) {
  return unpack<T>(exchange(operation, mask, pack(value), line), from);
}

inline unsigned ballot(const char* operation, unsigned mask, bool vote, int line) {
  Lanes lanes = exchange(operation, mask, pack(vote), line);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((lanes.members >> lane & 1) && lanes.values[lane].lo) votes |= 1u << lane;
  }
  return votes;
}

// Memory of the block whose size the launch says: exactly that many bytes.
void* dynamic_shared();

// A launch, and a kernel that a unit offers. A unit lists its own in `gpu_entries`; the last one has no name.
struct Launch {
  void** buffers;
  const void* args;
  unsigned args_size;
};
struct Entry {
  const char* name;
  unsigned buffers;
  unsigned cluster;  // blocks of a cluster
  void (*run)(const Launch&);
};

// Become whatever type the kernel's parameter has.
struct Buffer {
  void* memory;
  template <class T>
  operator T*() const {
    return static_cast<T*>(memory);
  }
};
struct Args {
  const Launch& launch;
  template <class T>
  operator T() const {
    if (sizeof(T) != launch.args_size) fail("the size of the argument block is not what the kernel declares");
    T value;
    __builtin_memcpy(&value, launch.args, sizeof(T));
    return value;
  }
};

template <class To, class From>
inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "types of different size");
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}

inline float from_f16(unsigned short half) {
  unsigned sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31, mantissa = half & 1023;
  if (exponent == 31) return bits<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent) return bits<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  float value = float(mantissa) * 0x1p-24f;
  return sign ? -value : value;
}

inline unsigned short to_f16(float value) {
  unsigned word = bits<unsigned>(value), sign = word >> 16 & 0x8000u, magnitude = word & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<unsigned short>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<unsigned short>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // subnormal: let the addition round
    float shifted = bits<float>(magnitude) + 0.5f;
    return static_cast<unsigned short>(sign | (bits<unsigned>(shifted) - 0x3f000000u));
  }
  unsigned rounded = magnitude + 0xfffu + (magnitude >> 13 & 1) - 0x38000000u;
  return static_cast<unsigned short>(sign | rounded >> 13);
}

inline float from_bf16(unsigned short word) { return bits<float>(unsigned(word) << 16); }

inline unsigned short to_bf16(float value) {
  unsigned word = bits<unsigned>(value);
  if ((word & 0x7fffffffu) > 0x7f800000u) return static_cast<unsigned short>(word >> 16 | 0x40u);
  return static_cast<unsigned short>((word + 0x7fffu + (word >> 16 & 1)) >> 16);
}

}  // namespace gpu

// Memory of a block that the text declares. One section holds it all, so that it can be filled before each block.
#define GPU_SHARED static __attribute__((section(".shared")))

// What the threads of a block on a GPU do together, as threads.h for the one thread of a CPU.
#pragma once

#define DEVICE static __device__ inline
#define DEVICE_CALL static __device__ __noinline__  // what is called from many places, so that it is compiled once
#define DEVICE_MEMBER __device__ inline
#define IN_VECTORS(...) _Pragma("unroll 8")
#define UNROLLED _Pragma("unroll")

constexpr float INFINITY = __builtin_bit_cast(float, 0x7F800000);
constexpr float NAN = __builtin_bit_cast(float, 0x7FC00000);
constexpr unsigned ALL_LANES = 0xFFFFFFFFu;
constexpr int LANES = 32;
constexpr int WARPS = BLOCK_THREADS / LANES;

DEVICE int thread() { return threadIdx.x; }
DEVICE constexpr int num_threads() { return BLOCK_THREADS; }
DEVICE void wait() { __syncthreads(); }
constexpr int GROUP = 16;  // tokens that a thread looks at together

DEVICE bool is_first() { return thread() == 0; }

template <class T> DEVICE T sum_of_lanes(T value) {
    for (int distance = LANES / 2; distance; distance /= 2) value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

template <class T> DEVICE T max_of_lanes(T value) {
    for (int distance = LANES / 2; distance; distance /= 2) {
        const T other = __shfl_xor_sync(ALL_LANES, value, distance);
        value = other > value ? other : value;
    }
    return value;
}

// In an order that depends on the number of threads alone.
template <class T> DEVICE T sum_of_threads(T value, Scratch &) {
    __shared__ T of_warps[WARPS];
    const int lane = thread() % LANES;
    value = sum_of_lanes(value);
    if (lane == 0) of_warps[thread() / LANES] = value;
    wait();
    value = sum_of_lanes(lane < WARPS ? of_warps[lane] : T(0));
    wait();
    return value;
}

DEVICE Sums sums_of_threads(Sums sums, Scratch &) {
    __shared__ Sums of_warps[WARPS];
    const int lane = thread() % LANES;
    sums = {sum_of_lanes(sums.a), sum_of_lanes(sums.b), sum_of_lanes(sums.c)};
    if (lane == 0) of_warps[thread() / LANES] = sums;
    wait();
    sums = lane < WARPS ? of_warps[lane] : Sums{0, 0, 0};
    sums = {sum_of_lanes(sums.a), sum_of_lanes(sums.b), sum_of_lanes(sums.c)};
    wait();
    return sums;
}

template <class T> DEVICE T max_of_threads(T value, Scratch &) {
    __shared__ T of_warps[WARPS];
    const int lane = thread() % LANES;
    value = max_of_lanes(value);
    if (lane == 0) of_warps[thread() / LANES] = value;
    wait();
    value = max_of_lanes(of_warps[lane < WARPS ? lane : 0]);
    wait();
    return __shfl_sync(ALL_LANES, value, 0);  // the same for all, also where some are no numbers
}

// Add to a number that other threads add to as well; the value before.
template <class T> DEVICE T add(T *at, T amount) { return atomicAdd(at, amount); }

// As add, where few of the numbers are added to by many threads: one lane adds for all that count the same.
DEVICE void tally(int *at, int amount) {
    const unsigned same = __match_any_sync(__activemask(), (unsigned)(unsigned long long)at);
    if (thread() % LANES == __ffs(same) - 1) atomicAdd(at, amount * __popc(same));
}

DEVICE void tally(unsigned long long *at, unsigned long long amount) { atomicAdd(at, amount); }

// Of NUM_DIGITS weights, the highest digit down to which they reach `wanted`, or else the last that has any. Each warp
// finds it for itself; a lane looks at digits that follow each other, the first at the highest.
template <class T> DEVICE Digit<T> digit_of(const T *weights, T wanted) {
    constexpr int EACH = NUM_DIGITS / LANES;
    const int lane = thread() % LANES, highest = NUM_DIGITS - 1 - lane * EACH;
    T own = 0;
    for (int at = 0; at < EACH; ++at) own += weights[highest - at];
    T above = own;
    for (int distance = 1; distance < LANES; distance *= 2) {
        const T before = __shfl_up_sync(ALL_LANES, above, distance);
        if (lane >= distance) above += before;
    }
    above -= own;
    Digit<T> found = {-1, 0};
    bool reached = false;
    for (int at = 0; at < EACH; ++at) {
        const T here = weights[highest - at];
        if (here == 0 || reached) continue;
        found = {highest - at, above};
        above += here;
        reached = above >= wanted;
    }
    const unsigned reaching = __ballot_sync(ALL_LANES, reached), some = __ballot_sync(ALL_LANES, found.digit >= 0);
    const int from = reaching ? __ffs(reaching) - 1 : some ? LANES - 1 - __clz(some) : 0;
    return {__shfl_sync(ALL_LANES, found.digit, from), __shfl_sync(ALL_LANES, found.above, from)};
}

DEVICE bool is_aligned(const float *values) { return ((unsigned long long)values & 15) == 0; }

DEVICE void load_four(const float *from, float *into) {
    const float4 four = *(const float4 *)from;
    into[0] = four.x, into[1] = four.y, into[2] = four.z, into[3] = four.w;
}

// Take what is marked as free, if it still is; give it back.
DEVICE bool try_to_take(int *mark) {
    if (atomicCAS(mark, 0, 1) != 0) return false;
    __threadfence();
    return true;
}

DEVICE void give_back(int *mark) {
    __threadfence();
    atomicExch(mark, 0);
}

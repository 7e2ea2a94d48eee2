// What the threads that work on one row do together. On a CPU there is one of them; cuda.h has those of a GPU.
#pragma once

#define DEVICE static inline
#define DEVICE_CALL static inline
#define DEVICE_MEMBER inline
#define PRAGMA(text) _Pragma(#text)
#define IN_VECTORS(...) PRAGMA(omp simd __VA_ARGS__)
#define UNROLLED

DEVICE int thread() { return 0; }
DEVICE constexpr int num_threads() { return 1; }
DEVICE void wait() {}
constexpr int GROUP = 64;  // tokens that a thread looks at together

DEVICE bool is_first() { return thread() == 0; }

template <class T> DEVICE T sum_of_threads(T value, Scratch &) { return value; }
template <class T> DEVICE T max_of_threads(T value, Scratch &) { return value; }
DEVICE Sums sums_of_threads(Sums sums, Scratch &) { return sums; }

// Add to a number that other threads add to as well; the value before.
template <class T> DEVICE T add(T *at, T amount) {
    T before = *at;
    *at += amount;
    return before;
}

// As add, where few of the numbers are added to by many threads.
template <class T> DEVICE void tally(T *at, T amount) { *at += amount; }

// Of NUM_DIGITS weights, the highest digit down to which they reach `wanted`, above 0, or else the last that has any.
template <class T> DEVICE Digit<T> digit_of(const T *weights, T wanted) {
    Digit<T> found = {-1, 0};
    T above = 0;
    for (int digit = NUM_DIGITS - 1; digit >= 0; --digit) {
        if (weights[digit] == 0) continue;
        found = {digit, above};
        above += weights[digit];
        if (above >= wanted) break;
    }
    return found;
}

// The row's memory for what must not be written to the logits.
DEVICE float *copy_of(const Step &, Scratch &scratch, int which) { return scratch.copies[which]; }

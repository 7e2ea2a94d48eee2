// What the threads that work on one row do together. On a CPU there is one of them.
#pragma once

#define DEVICE static inline

DEVICE int thread() { return 0; }
DEVICE constexpr int num_threads() { return 1; }
DEVICE void wait() {}
constexpr int GROUP = 64;  // tokens that follow each other, which one thread looks at together

DEVICE bool is_first() { return thread() == 0; }

template <class T> DEVICE T sum_of_threads(T value, Scratch &) { return value; }
template <class T> DEVICE T max_of_threads(T value, Scratch &) { return value; }

// Add to a number that other threads add to as well; the value before.
template <class T> DEVICE T add(T *at, T amount) {
    T before = *at;
    *at += amount;
    return before;
}

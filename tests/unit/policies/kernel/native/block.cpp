// The step by thread blocks, as a GPU runs it, on one thread of this CPU: everything but cuda.h and the launches.
//
// Blocks run one after the other. Each thread of a block runs up to where it waits for the others, first to last and, from
// there on, last to first: what is read before another thread has written it shows in one of the two.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ucontext.h>
#include <vector>

using std::exp;
using std::fabs;
using std::log;
using std::sqrt;

#define DEVICE_DATA
#define DEVICE static inline
#define DEVICE_CALL static inline
#define DEVICE_MEMBER inline
#define IN_VECTORS(...)
#define UNROLLED
#include "columns.h"
#include "tables.h"

constexpr int BLOCK_THREADS = 4;
constexpr int LANES = 2;
constexpr int WARPS = BLOCK_THREADS / LANES;
constexpr int TOKENS_EACH = 8;
constexpr int STACK_BYTES = 1 << 18;

struct Thread {
    ucontext_t place;
    std::vector<char> stack;
    bool ended;
};

ucontext_t scheduler;
Thread threads[BLOCK_THREADS];
int running;

DEVICE int thread() { return running; }
DEVICE constexpr int num_threads() { return BLOCK_THREADS; }
DEVICE void wait() { swapcontext(&threads[running].place, &scheduler); }
constexpr int GROUP = 8;
DEVICE bool is_first() { return thread() == 0; }

// The sum, or the largest from its own on, of the values of so many threads that follow each other.
template <class T> DEVICE T sum_of(int threads, T value) {
    static T values[BLOCK_THREADS];
    values[thread()] = value;
    wait();
    T sum = 0;
    for (int at = 0; at < threads; ++at) sum += values[thread() / threads * threads + at];
    wait();
    return sum;
}

template <class T> DEVICE T max_of(int threads, T value) {
    static T values[BLOCK_THREADS];
    values[thread()] = value;
    wait();
    T most = value;  // as a GPU's lanes: the order shows where some are NaN
    for (int at = 0; at < threads; ++at) {
        const T other = values[thread() / threads * threads + at];
        most = other > most ? other : most;
    }
    wait();
    return most;
}

template <class T> DEVICE T sum_of_threads(T value, Scratch &) { return sum_of(BLOCK_THREADS, value); }
template <class T> DEVICE T max_of_threads(T value, Scratch &) { return max_of(BLOCK_THREADS, value); }
template <class T> DEVICE T sum_of_lanes(T value) { return sum_of(LANES, value); }
template <class T> DEVICE T max_of_lanes(T value) { return max_of(LANES, value); }

DEVICE Sums sums_of_threads(Sums sums, Scratch &scratch) {
    return {sum_of_threads(sums.a, scratch), sum_of_threads(sums.b, scratch), sum_of_threads(sums.c, scratch)};
}

DEVICE bool is_aligned(const float *values) { return reinterpret_cast<unsigned long long>(values) % 16 == 0; }

DEVICE void load_four(const float *from, float *into) {
    for (int at = 0; at < 4; ++at) into[at] = from[at];
}

template <class T> DEVICE T add(T *at, T amount) {
    const T before = *at;
    *at += amount;
    return before;
}

template <class T> DEVICE void tally(T *at, T amount) { add(at, amount); }

template <class T> DEVICE Digit<T> digit_of(const T *weights, T wanted) {
    Digit<T> found = {-1, 0};
    T above = 0;
    for (int digit = NUM_DIGITS - 1; digit >= 0 && (found.digit < 0 || above < wanted); --digit)
        if (weights[digit]) found = {digit, above}, above += weights[digit];
    return found;
}

DEVICE bool try_to_take(int *mark) { return *mark ? false : (*mark = 1, true); }
DEVICE void give_back(int *mark) { *mark = 0; }

#include "numbers.h"
#include "sweeps.h"
#include "select.h"
#include "signals.h"
#include "block.h"
#include "row_programs.h"

namespace {
Request request;
Scratch scratch;
void *current_work;

template <class Work> void run_thread() {
    (*static_cast<Work *>(current_work))();
    threads[running].ended = true;
    wait();
}

// Run a block's threads from one place to the next where all of them wait.
template <class Work> void run(Work work) {
    current_work = &work;
    for (Thread &one : threads) {
        one.stack.resize(STACK_BYTES), one.ended = false;
        getcontext(&one.place);
        one.place.uc_stack.ss_sp = one.stack.data(), one.place.uc_stack.ss_size = STACK_BYTES;
        makecontext(&one.place, run_thread<Work>, 0);
    }
    for (int round = 0;; ++round) {
        int ended = 0;
        for (int number = 0; number < BLOCK_THREADS; ++number) {
            running = round % 2 ? BLOCK_THREADS - 1 - number : number;
            swapcontext(&scheduler, &threads[running].place);
            ended += threads[running].ended;
        }
        if (ended == BLOCK_THREADS) return;
        if (ended) {
            std::fprintf(stderr, "some threads of a block wait for others that have ended\n");
            std::abort();
        }
    }
}
}  // namespace

extern "C" void block_write(const Writes *writes, long long groups) {
    run([=] {
        for (long long group = 0; group < groups; ++group) {
            write_group(*writes, group);
            wait();
        }
    });
}

extern "C" void block_measure(const Tables *tables, const Batch *batch, const Step *step, long long parts) {
    run([=] {
        for (long long row = 0; row < batch->rows; ++row)
            for (int part = 0; part < parts; part += WARPS) {
                measure_part(*tables, *batch, *step, row, part + thread() / LANES);
                wait();
            }
    });
}

extern "C" void block_step(const Tables *tables, const Batch *batch, const Step *step) {
    run([=] {
        for (long long row = 0; row < batch->rows; ++row) {
            if (is_first()) scratch.borrowed = NONE;
            wait();
            step_request(*tables, *batch, *step, row, request, scratch);
            return_copies(*step, scratch);
            wait();
        }
    });
}

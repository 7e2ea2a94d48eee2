// The step on a CPU: rows one after the other, each by one thread.
#include <cmath>
#include <cstdlib>

using std::exp;
using std::fabs;
using std::log;
using std::sqrt;

#define DEVICE_DATA
#include "columns.h"
#include "tables.h"
#include "threads.h"
#include "numbers.h"
#include "sweeps.h"
#include "select.h"
#include "signals.h"
#include "measure_row.h"
#include "row_programs.h"

namespace {
struct Own {
    Request request;
    Scratch scratch;
    long long room = 0;

    void make_room(long long vocabulary) {
        if (vocabulary <= room) return;
        for (float *&copy : scratch.copies) copy = static_cast<float *>(std::realloc(copy, sizeof(float) * vocabulary));
        room = vocabulary;
    }
};
thread_local Own own;
}  // namespace

// Rows `begin` to `end`, which starts and ends with whole requests.
extern "C" void forkpoint_step(const Tables *tables, const Batch *batch, const Step *step, long long begin, long long end) {
    own.make_room(step->vocabulary);
    for (long long row = begin; row < end; ++row) step_request(*tables, *batch, *step, row, own.request, own.scratch);
}

// The signals of [rows, vocabulary] logits, into [rows, 5].
extern "C" void forkpoint_measure(const float *logits, long long stride, long long vocabulary, Measured *found,
                                  long long begin, long long end) {
    for (long long row = begin; row < end; ++row)
        found[row] = measure({const_cast<float *>(logits) + row * stride, static_cast<int>(vocabulary)});
}

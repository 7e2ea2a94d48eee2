// The step on a GPU. BLOCK_THREADS are the threads of a block that steps a request, MEASURING_THREADS those of one that
// measures.
#define DEVICE_DATA __device__
#include "columns.h"
#include "tables.h"
#include "cuda.h"
#include "numbers.h"
#include "sweeps.h"
#include "select.h"
#include "signals.h"
#include "block.h"
#include "row_programs.h"

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS) forkpoint_write(Writes writes) {
    write_group(writes, blockIdx.x);
}

extern "C" __global__ void __launch_bounds__(MEASURING_THREADS)
    forkpoint_measure(Tables tables, Batch batch, Step step) {
    measure_part(tables, batch, step, blockIdx.x, (int)(blockIdx.y * MEASURING_THREADS + threadIdx.x) / LANES);
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS) forkpoint_step(Tables tables, Batch batch, Step step) {
    __shared__ Request request;
    __shared__ Scratch scratch;
    if (is_first()) scratch.borrowed = NONE;
    wait();
    step_request(tables, batch, step, blockIdx.x, request, scratch);
    return_copies(step, scratch);
}

// The step on a GPU. BLOCK_THREADS is the threads of a block.
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

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS) forkpoint_measure(Tables tables, Batch batch, Step step) {
    __shared__ Scratch scratch;
    measure_part(tables, batch, step, blockIdx.y, blockIdx.x, scratch);
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS) forkpoint_step(Tables tables, Batch batch, Step step) {
    __shared__ Request request;
    __shared__ Scratch scratch;
    if (is_first()) scratch.borrowed = NONE;
    wait();
    step_request(tables, batch, step, blockIdx.x, request, scratch);
    return_copies(step, scratch);
}

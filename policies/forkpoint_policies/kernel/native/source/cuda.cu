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
#include "step_tile.h"

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS) forkpoint_write(Writes writes) {
    write_group(writes, blockIdx.x);
}

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS, BLOCKS_AT_ONCE)
    forkpoint_step(Tables tables, Batch batch, Step step) {
    __shared__ Request request;
    __shared__ Scratch scratch;
    step_tile(tables, batch, step, blockIdx.y, blockIdx.x, request, scratch);
}

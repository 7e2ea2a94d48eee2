// What a block does: it measures a tile, and may go on to decide and act.
#pragma once

// One tile of a row, and all of its request's rows if this block is the last of theirs.
DEVICE void step_tile(const Tables &tables, const Batch &batch, const Step &step, long long row, int tile,
                      Request &request, Scratch &scratch) {
    const int slot = batch.slots[row];
    if (slot < 0 || tables.slots[slot * SLOT_INTS + PROGRAM] < 0) {
        if (tile == 0) step_request(tables, batch, step, row, request, scratch);
        return;
    }
    measure_part(step, row, tile);
    long long first = row, end = row + 1;
    while (first > 0 && batch.slots[first - 1] == slot) --first;
    while (end < batch.rows && batch.slots[end] == slot) ++end;
    if (is_first()) {
        const int blocks = (int)(end - first) * num_tiles((int)step.vocabulary);
        scratch.is_last = add(step.arrived + first, 1) == blocks - 1;
        publish();
    }
    wait();
    if (!scratch.is_last) return;
    if (is_first()) step.arrived[first] = 0, scratch.borrowed = NONE;
    wait();
    step_request(tables, batch, step, first, request, scratch);
    return_copies(step, scratch);
}

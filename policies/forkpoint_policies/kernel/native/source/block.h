// The step by thread blocks, as on a GPU: the warps of many blocks measure the parts of all rows, and then one block for
// each request does the rest.
//
// How a row is cut depends on the vocabulary alone, and no sum of floats is taken atomically: a row gets the same bits in
// any batch.
#pragma once

constexpr int PART = TOKENS_EACH * LANES;  // tokens that a warp measures

struct alignas(16) Moments {  // of a part, relative to its largest logit
    float peak, s0, s1, s2;
};

DEVICE int num_parts(int vocabulary) { return (vocabulary + PART - 1) / PART; }

DEVICE Moments *moments_of(const Step &step, long long row) {
    return (Moments *)step.moments + row * num_parts((int)step.vocabulary);
}

// The moments of one part of a row, if the row's request has a program; by a warp.
DEVICE void measure_part(const Tables &tables, const Batch &batch, const Step &step, long long row, int part) {
    const int lane = thread() % LANES, size = (int)step.vocabulary, begin = part * PART;
    const int slot = batch.slots[row];
    if (slot < 0 || tables.slots[slot * SLOT_INTS + PROGRAM] < 0) return;
    const float *values = step.logits + row * step.stride;
    const bool whole = begin + PART <= size && is_aligned(values);
    float own[TOKENS_EACH], peak = NOTHING, s0 = 0, s1 = 0, s2 = 0;
    UNROLLED
    for (int four = 0; four < TOKENS_EACH; four += 4) {
        const int at = begin + four * LANES + 4 * lane;
        if (whole)
            load_four(values + at, own + four);
        else
            for (int one = 0; one < 4; ++one) own[four + one] = at + one < size ? values[at + one] : NOTHING;
    }
    UNROLLED
    for (int at = 0; at < TOKENS_EACH; ++at) peak = larger(own[at], peak);
    peak = max_of_lanes(peak);
    UNROLLED
    for (int at = 0; at < TOKENS_EACH; ++at) {
        const float depth = larger(own[at] - peak, LOWEST), w = exponential(depth), first = w * depth;
        s0 += w, s1 += first, s2 = multiply_add(first, depth, s2);
    }
    s0 = sum_of_lanes(s0), s1 = sum_of_lanes(s1), s2 = sum_of_lanes(s2);
    if (lane == 0 && begin < size) moments_of(step, row)[part] = {peak, s0, s1, s2};
}

// A row's signals, of the moments of its parts.
DEVICE Measured measured_row(const Step &step, long long row, Line line, Scratch &scratch) {
    const int parts = num_parts(line.size);
    const Moments *moments = moments_of(step, row);
    float peak = NOTHING;
    for (int part = thread(); part < parts; part += num_threads()) peak = larger(moments[part].peak, peak);
    peak = max_of_threads(peak, scratch);
    if (peak == NOTHING) return CERTAIN_ROW;
    Sums whole = {0, 0, 0};
    for (int part = thread(); part < parts; part += num_threads()) {
        const Moments own = moments[part];
        if (own.peak == NOTHING) continue;
        const Sums sums = moved({own.s0, own.s1, own.s2}, (double)own.peak - (double)peak);
        whole.a += sums.a, whole.b += sums.b, whole.c += sums.c;
    }
    return signals_of(peak, sums_of_threads(whole, scratch));
}

// The row's memory for what must not be written to the logits, borrowed until the end of the request's rows. Blocks that
// find none left wait for others, which need nothing more to end.
DEVICE float *copy_of(const Step &step, Scratch &scratch, int which) {
    if (scratch.borrowed < 0) {
        wait();
        if (is_first()) {
            int at = 0;
            while (!try_to_take(step.lent + at)) at = at + 1 < step.num_copies ? at + 1 : 0;
            scratch.borrowed = at;
        }
        wait();
    }
    return step.copies + (2ll * scratch.borrowed + which) * step.vocabulary;
}

DEVICE void return_copies(const Step &step, Scratch &scratch) {
    wait();
    if (is_first() && scratch.borrowed >= 0) give_back(step.lent + scratch.borrowed);
}

// What the host has changed in the tables since the last step, in groups of pieces. A group may be guarded: the state
// that a preempted request left stays, unless it is that of a later position.
struct Writes {
    const long long *groups;  // [groups, 4]: the address of the state's position or 0, the request's position, and its
                              // pieces' begin and end
    const long long *pieces;  // [pieces, 3]: the address to write to, the offset of the numbers, their count
    const int *numbers;
};

DEVICE void write_group(const Writes &writes, long long number) {
    const long long *group = writes.groups + 4 * number;
    const int *state = (const int *)group[0];
    const bool stays = state && *state <= (int)group[1];
    wait();  // a piece may be written over the position
    if (stays) return;
    for (long long at = group[2]; at < group[3]; ++at) {
        const long long *piece = writes.pieces + 3 * at;
        int *to = (int *)piece[0];
        const int *from = writes.numbers + piece[1];
        for (long long place = thread(); place < piece[2]; place += num_threads()) to[place] = from[place];
    }
}

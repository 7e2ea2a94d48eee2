// The step by thread blocks, as on a GPU. Each block measures one tile of a row. The one that ends last of a request's
// does the rest for it, while others still read: what it acts on is then still in the cache.
//
// How a row is cut depends on the vocabulary alone, and no sum of floats is taken atomically: a row gets the same bits in
// any batch.
#pragma once

constexpr int PART = TOKENS_EACH * LANES;          // tokens that a warp measures, TOKENS_EACH a thread
constexpr int TILE = TOKENS_EACH * num_threads();  // tokens that a block does

struct Moments {  // of a part, relative to its largest logit
    float peak, s0, s1, s2;
};

DEVICE int num_tiles(int vocabulary) { return (vocabulary + TILE - 1) / TILE; }

DEVICE Moments *moments_of(const Step &step, long long row) {
    return (Moments *)step.moments + row * num_tiles((int)step.vocabulary) * WARPS;
}

// The moments of a warp's part of a row.
DEVICE void measure_part(const Step &step, long long row, int tile) {
    const int warp = thread() / LANES, lane = thread() % LANES, size = (int)step.vocabulary;
    const int begin = tile * TILE + warp * PART;
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
    for (int at = 0; at < TOKENS_EACH; ++at) peak = larger(peak, own[at]);
    peak = max_of_lanes(peak);
    UNROLLED
    for (int at = 0; at < TOKENS_EACH; ++at) {
        const float depth = larger(own[at] - peak, LOWEST), w = exponential(depth), first = w * depth;
        s0 += w, s1 += first, s2 = multiply_add(first, depth, s2);
    }
    s0 = sum_of_lanes(s0), s1 = sum_of_lanes(s1), s2 = sum_of_lanes(s2);
    if (lane == 0) {
        moments_of(step, row)[tile * WARPS + warp] = {peak, s0, s1, s2};
        publish();
    }
    wait();
}

// A row's signals, of the moments of its parts.
DEVICE Measured measured_row(const Step &step, long long row, Line line, Scratch &scratch) {
    const int parts = num_tiles(line.size) * WARPS;
    const Moments *moments = moments_of(step, row);
    float peak = NOTHING;
    for (int part = thread(); part < parts; part += num_threads()) peak = larger(peak, published(&moments[part].peak));
    peak = max_of_threads(peak, scratch);
    if (peak == NOTHING) return CERTAIN_ROW;
    Sums whole = {0, 0, 0};
    for (int part = thread(); part < parts; part += num_threads()) {
        const float own = published(&moments[part].peak);
        if (own == NOTHING) continue;
        const Sums sums = moved(
            {published(&moments[part].s0), published(&moments[part].s1), published(&moments[part].s2)},
            (double)own - (double)peak);
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

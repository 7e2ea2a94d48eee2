// A row's signals by one thread. Each logit is read once, against the highest so far; only where that is far exceeded,
// once more.
#pragma once

constexpr float FAR = 2.0f;  // nats by which the highest logit may exceed the reference before sums lose digits

struct BlockMoments {
    float s0, s1, s2, highest;
};

DEVICE BlockMoments block_moments(const float *values, int count, float reference) {
    float s0 = 0, s1 = 0, s2 = 0, most = NOTHING;
    IN_VECTORS(reduction(+ : s0, s1, s2) reduction(max : most))
    for (int at = 0; at < count; ++at) {
        const float value = values[at];
        most = value > most ? value : most;
        const float depth = larger(value - reference, LOWEST);  // what is lower adds e^LOWEST: nothing beside a peak
        const float w = exponential(depth), first = w * depth;  // far above the reference they are nonsense: not used
        s0 += w, s1 += first, s2 = multiply_add(first, depth, s2);
    }
    return {s0, s1, s2, most};
}

DEVICE Measured measure(Line line) {
    float peak = NOTHING, reference = NOTHING;
    Sums sums = {0, 0, 0};
    for (int begin = 0; begin < line.size; begin += BLOCK) {
        const float *values = line.values + begin;
        const int count = smaller(BLOCK, line.size - begin);
        if (reference == NOTHING) {
            int most = NOTHING_RANK;
            IN_VECTORS(reduction(max : most))
            for (int at = 0; at < count; ++at) {
                const int rank = rank_of(values[at]);
                most = rank > most ? rank : most;
            }
            if (most <= NOTHING_RANK) continue;
            reference = float_of(most ^ ((most >> 31) & 0x7FFFFFFF));
        }
        BlockMoments block = block_moments(values, count, reference);
        if (block.highest > reference + FAR) {
            sums = moved(sums, (double)reference - (double)block.highest);
            reference = block.highest;
            block = block_moments(values, count, reference);
        }
        peak = larger(peak, block.highest);
        sums.a += block.s0, sums.b += block.s1, sums.c += block.s2;
    }
    if (peak == NOTHING) return CERTAIN_ROW;
    return signals_of(peak, moved(sums, (double)reference - (double)peak));
}

DEVICE Measured measured_row(const Step &, long long, Line line, Scratch &) { return measure(line); }

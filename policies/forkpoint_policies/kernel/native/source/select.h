// The likeliest tokens of a row: from which logit on they are k, or have a share; and the first k in order.
//
// A radix selection over the bits of the logits, eight at a time, is exact whatever the order in which threads add.
#pragma once

// A logit's key, and how many of those that have it count.
struct KeyOf {
    unsigned key;
    int among;
};

// The key of the k-th likeliest token, or of the last possible one, and how many that have it are among the k.
// {0, 0} of a row of -inf alone.
DEVICE_CALL KeyOf key_of_kth(Line line, int k, Scratch &scratch) {
    unsigned long long prefix = 0;
    int left = k;
    for (int number = 0; number < 4; ++number) {
        const int shift = 24 - 8 * number;
        count_digits(line, shift, prefix, scratch);
        if (number == 0) {
            int total = 0;
            for (int digit = thread(); digit < NUM_DIGITS; digit += num_threads()) total += scratch.counts[digit];
            left = smaller(left, sum_of_threads(total, scratch));
            if (left == 0) return {0, 0};
        }
        const Digit<int> chosen = digit_of(scratch.counts, left);
        wait();
        prefix = prefix << 8 | (unsigned long long)chosen.digit, left -= chosen.above;
    }
    return {(unsigned)prefix, left};
}

// The key down to which the likeliest tokens have a weight of `wanted`, with the first that reaches it.
DEVICE_CALL unsigned key_of_share(Line line, float peak, float coldness, double wanted, Scratch &scratch) {
    unsigned long long prefix = 0, left = (unsigned long long)(wanted * MASS_UNITS);
    for (int number = 0; number < 4; ++number) {
        const int shift = 24 - 8 * number;
        weigh_digits(line, shift, prefix, peak, coldness, scratch);
        const Digit<unsigned long long> chosen = digit_of(scratch.masses, left);
        wait();
        if (chosen.digit < 0) return 0;
        prefix = prefix << 8 | (unsigned long long)chosen.digit, left -= chosen.above;
    }
    return (unsigned)prefix;
}

DEVICE float logit_of_key(unsigned key) {
    const int rank = (int)(key ^ 0x80000000u);
    return float_of(rank ^ ((rank >> 31) & 0x7FFFFFFF));
}

// The rank of the k-th largest of scratch.maxima.
DEVICE_CALL int kth_maximum(int k, Scratch &scratch) {
    unsigned prefix = 0;
    int left = k;
    for (int number = 0; number < 4; ++number) {
        const int shift = 24 - 8 * number;
        for (int digit = thread(); digit < NUM_DIGITS; digit += num_threads()) scratch.counts[digit] = 0;
        wait();
        for (int at = thread(); at < NUM_MAXIMA; at += num_threads()) {
            const unsigned key = (unsigned)scratch.maxima[at] ^ 0x80000000u;
            if ((unsigned long long)key >> (shift + 8) == prefix) add(&scratch.counts[key >> shift & 255], 1);
        }
        wait();
        const Digit<int> chosen = digit_of(scratch.counts, left);
        wait();
        prefix = prefix << 8 | (unsigned)chosen.digit, left -= chosen.above;
    }
    return (int)(prefix ^ 0x80000000u);
}

// Write the k likeliest tokens to scratch.tokens, in no order; how many.
DEVICE_CALL int collect_exactly(Line line, int k, Scratch &scratch) {
    const KeyOf kth = key_of_kth(line, k, scratch);
    if (kth.among == 0) return 0;
    int before = line.size;
    if (num_with_key(line, kth.key, before, scratch) > kth.among) {
        int low = 0;
        while (low < before) {
            const int middle = (low + before) / 2;
            if (num_with_key(line, kth.key, middle, scratch) >= kth.among)
                before = middle;
            else
                low = middle + 1;
        }
    }
    return collect_above(line, kth.key, before, scratch);
}

// Write the k likeliest tokens, or as many as are possible, to scratch.order; how many. Ties go to lower ids.
//
// Of NUM_MAXIMA parts of a row, k have a maximum of at least some rank; few more tokens do.
DEVICE_CALL int likeliest(Line line, int k, Scratch &scratch) {
    find_maxima(line, scratch);
    int found = collect_from(line, kth_maximum(k, scratch), scratch);
    if (found > MAX_CANDIDATES) found = collect_exactly(line, k, scratch);
    int *ranks = scratch.maxima;
    for (int at = thread(); at < found; at += num_threads()) ranks[at] = rank_of(line.values[scratch.tokens[at]]);
    wait();
    for (int at = thread(); at < found; at += num_threads()) {
        const int token = scratch.tokens[at];
        int place = 0;
        for (int other = 0; other < found; ++other)
            place += ranks[other] > ranks[at] || (ranks[other] == ranks[at] && scratch.tokens[other] < token);
        if (place < k) scratch.order[place] = token;
    }
    wait();
    return smaller(found, k);
}

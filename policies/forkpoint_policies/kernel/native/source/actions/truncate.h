// Truncation: top-p, min-p, top-h, top-n-sigma and their like. Tokens that tie with the last one stay.
#pragma once

constexpr int TOP_H_TOKENS = 100;
// Beyond ORDERED_TOKENS in order the whole row is searched.
constexpr int AT_A_TIME = num_threads() == 1 ? 32 : ORDERED_TOKENS;  // of these, one thread need not look at all

// Of the tokens that tie for the likeliest, leave the first.
DEVICE void keep_first(Line line, float peak, Scratch &scratch) {
    const int first = find(line, peak, scratch);
    for (int token = thread(); token < line.size; token += num_threads())
        if (token != first) line.values[token] = NOTHING;
    wait();
}

// The standard deviation of the possible logits.
DEVICE_CALL float deviation(Line line, float peak, Scratch &scratch) {
    const Sums sums = sum_of_possible(line, peak, scratch);
    const double count = larger(sums.b, 1.0);
    return (float)sqrt(sum_of_squares(line, peak, (float)(sums.a / count), scratch) / count);
}

// The logit of the last token that stays, among `count` tokens in order; infinite where it is not among them.
DEVICE_CALL float limit_among(Line line, int action, const Acting &acting, int count, Scratch &scratch) {
    if (count == 0) return NOTHING;
    if (action == ACTION_TOP_K) {
        const bool beyond = (int)acting.strength > ORDERED_TOKENS && count > ORDERED_TOKENS;
        return beyond ? INFINITY : line.values[scratch.order[count - 1]];
    }
    double whole = 0;
    const double log_total = log(acting.total);
    if (action == ACTION_TOP_H) whole = acting.entropy;
    if (action == ACTION_TOP_H && whole < 0)
        whole = log_total - moments(line, acting.peak, acting.coldness, scratch).b / acting.total;
    double mass = 0, weighed = 0;
    for (int begin = 0; begin < count; begin += AT_A_TIME) {
        const int some = smaller(AT_A_TIME, count - begin);
        for (int at = thread(); at < some; at += num_threads()) {
            const float value = line.values[scratch.order[begin + at]];
            const double log_share = (double)((value - acting.peak) * acting.coldness) - log_total, share = exp(log_share);
            scratch.shares[at] = share, scratch.weighed[at] = share * log_share;
        }
        wait();
        if (is_first())
            for (int at = 0; at < some; ++at) {
                scratch.shares[at] = mass += scratch.shares[at];
                scratch.weighed[at] = weighed += scratch.weighed[at];
            }
        wait();
        int reached = some;
        for (int at = thread(); at < some && reached == some; at += num_threads()) {
            const double here = scratch.shares[at];
            if (action == ACTION_TOP_P ? here >= acting.strength
                                       : log(here) - scratch.weighed[at] / here > acting.strength * whole)
                reached = at;
        }
        reached = -max_of_threads(-reached, scratch);
        // of top-p the token that reaches the mass stays, of top-h the one that exceeds the entropy goes; the first stays
        if (reached < some)
            return line.values[scratch.order[larger(begin + reached - (action == ACTION_TOP_P ? 0 : 1), 0)]];
    }
    if (action == ACTION_TOP_P) return count == ORDERED_TOKENS ? INFINITY : NOTHING;
    return line.values[scratch.order[count - 1]];
}

// The same, where the whole row has to be searched.
DEVICE_CALL float limit_beyond(Line line, int action, const Acting &acting, Scratch &scratch) {
    if (action == ACTION_TOP_K) return logit_of_key(key_of_kth(line, (int)acting.strength, scratch).key);
    return logit_of_key(key_of_share(line, acting.peak, acting.coldness, acting.strength * acting.total, scratch));
}

DEVICE_CALL float limit_of(Line line, int action, const Acting &acting, Scratch &scratch) {
    if (action == ACTION_LIKELIEST) return acting.peak;
    if (action == ACTION_MIN_P) return acting.strength > 0 ? acting.peak + logf(acting.strength) / acting.coldness : NOTHING;
    if (action == ACTION_TOP_N_SIGMA) return acting.peak - acting.strength * deviation(line, acting.peak, scratch);
    if (action == ACTION_P_LESS) {  // p ≥ Σ p², in logits; the likeliest token stays, whatever the rounding
        const double squares = weight(line, acting.peak, 2.0f * acting.coldness, scratch);
        return smaller(acting.peak, acting.peak + (float)log(squares / acting.total) / acting.coldness);
    }
    int count = action == ACTION_TOP_H ? TOP_H_TOKENS : ORDERED_TOKENS;
    if (action == ACTION_TOP_K) count = smaller((int)acting.strength, ORDERED_TOKENS + 1);
    const float limit = limit_among(line, action, acting, likeliest(line, count, scratch), scratch);
    return limit > acting.peak ? limit_beyond(line, action, acting, scratch) : limit;
}

// Mask all but the tokens at or above a limit; the effect.
DEVICE_CALL double truncate(Line line, int action, const Acting &acting, Scratch &scratch) {
    double left = keep_from(line, limit_of(line, action, acting, scratch), acting.peak, acting.coldness, scratch);
    wait();
    if (action == ACTION_LIKELIEST) {
        keep_first(line, acting.peak, scratch);
        left = 1.0;
    }
    return larger(1.0 - left / acting.total, 0.0);
}

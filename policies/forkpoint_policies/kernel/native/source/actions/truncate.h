// Truncation: top-p, min-p, top-h, top-n-sigma and their like. Tokens that tie with the last one stay.
#pragma once

constexpr int TOP_H_TOKENS = 100;
constexpr int ORDERED_TOKENS = 256;  // up to so many tokens are put in order; beyond them the whole row is searched

// Of the tokens that tie for the likeliest, leave the first.
DEVICE void keep_first(Line line, float peak, Scratch &scratch) {
    const int first = find(line, peak, scratch);
    for (int token = thread(); token < line.size; token += num_threads())
        if (token != first) line.values[token] = NOTHING;
    wait();
}

// The standard deviation of the possible logits.
DEVICE float deviation(Line line, float peak, Scratch &scratch) {
    const Sums sums = sum_of_possible(line, peak, scratch);
    const double count = larger(sums.b, 1.0);
    return (float)sqrt(sum_of_squares(line, peak, (float)(sums.a / count), scratch) / count);
}

// The logit of the last token that stays, among `count` tokens in order; infinite where it is not among them.
DEVICE float limit_among(Line line, int action, const Acting &acting, int count, Scratch &scratch) {
    if (count == 0) return NOTHING;
    if (action == ACTION_TOP_K) {
        const bool beyond = (int)acting.strength > ORDERED_TOKENS && count > ORDERED_TOKENS;
        return beyond ? INFINITY : line.values[scratch.order[count - 1]];
    }
    double whole = 0, mass = 0, weighed = 0;
    const double log_total = log(acting.total);
    if (action == ACTION_TOP_H) whole = acting.entropy;
    if (action == ACTION_TOP_H && whole < 0)
        whole = log_total - moments(line, acting.peak, acting.coldness, scratch).b / acting.total;
    float limit = line.values[scratch.order[0]];
    for (int at = 0; at < count; ++at) {
        const float value = line.values[scratch.order[at]];
        const double log_share = (double)((value - acting.peak) * acting.coldness) - log_total, share = exp(log_share);
        mass += share;
        if (action == ACTION_TOP_P) {
            if (mass >= acting.strength) return value;
        } else {
            weighed += share * log_share;
            if (log(mass) - weighed / mass > acting.strength * whole) return limit;
            limit = value;
        }
    }
    if (action == ACTION_TOP_P) return count == ORDERED_TOKENS ? INFINITY : NOTHING;
    return limit;
}

// The same, where the whole row has to be searched.
DEVICE float limit_beyond(Line line, int action, const Acting &acting, Scratch &scratch) {
    if (action == ACTION_TOP_K) return logit_of_key(key_of_kth(line, (int)acting.strength, scratch).key);
    return logit_of_key(key_of_share(line, acting.peak, acting.coldness, acting.strength * acting.total, scratch));
}

DEVICE float limit_of(Line line, int action, const Acting &acting, Scratch &scratch) {
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
DEVICE double truncate(Line line, int action, const Acting &acting, Scratch &scratch) {
    double left = keep_from(line, limit_of(line, action, acting, scratch), acting.peak, acting.coldness, scratch);
    wait();
    if (action == ACTION_LIKELIEST) {
        keep_first(line, acting.peak, scratch);
        left = 1.0;
    }
    return larger(1.0 - left / acting.total, 0.0);
}

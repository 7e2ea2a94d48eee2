// What can be sampled of a row under its request's own min-p, top-k and top-p. vLLM applies them after us, in this
// order; tokens that tie with the last one count as possible.
#pragma once

// The tokens from a logit on, and their Σ w.
struct Possible {
    float limit;
    double total;
};

DEVICE bool has_limits(const int *slot) {
    return float_of(slot[LIMIT_MIN_P]) > 0.0f || slot[LIMIT_TOP_K] > 0 || float_of(slot[LIMIT_TOP_P]) < 1.0f;
}

DEVICE_CALL Possible possible_tokens(Line line, const int *slot, float peak, float coldness, double total, Scratch &scratch) {
    Possible found = {NOTHING, total};
    Acting acting;
    acting.peak = peak, acting.coldness = coldness;
    const auto apply_limit = [&](int action, float strength) {
        acting.strength = strength, acting.total = found.total;
        found.limit = larger(found.limit, limit_of(line, action, acting, scratch));
        found.total = weight_from(line, found.limit, peak, coldness, scratch);
    };
    if (float_of(slot[LIMIT_MIN_P]) > 0.0f) apply_limit(ACTION_MIN_P, float_of(slot[LIMIT_MIN_P]));
    if (slot[LIMIT_TOP_K] > 0) apply_limit(ACTION_TOP_K, (float)slot[LIMIT_TOP_K]);
    if (float_of(slot[LIMIT_TOP_P]) < 1.0f) apply_limit(ACTION_TOP_P, float_of(slot[LIMIT_TOP_P]));
    return found;
}

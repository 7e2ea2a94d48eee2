// Suppress and amplify: a bias on a set of tokens, or a mask.
#pragma once

constexpr double MAX_EXPONENT = 60.0;  // a bias that lifts a token this far has taken all the probability
constexpr double NEARLY_ALL = 0.999;

// The weight of the set's tokens, lifted by a bias.
DEVICE_CALL double weight_of_set(Line line, const Acting &acting, float lift, Scratch &scratch) {
    double total = 0;
    for (int at = thread(); at < acting.count; at += num_threads())
        if (acting.counts(at)) {
            const double depth = ((double)line.values[acting.tokens[at]] - acting.peak + lift) * acting.coldness;
            total += exp(smaller(depth, MAX_EXPONENT));
        }
    return sum_of_threads(total, scratch);
}

// Suppression adds, and never overwrites: what a grammar forbids stays forbidden.
DEVICE void add_to_set(Line line, const Acting &acting, float amount) {
    for (int at = thread(); at < acting.count; at += num_threads())
        if (acting.counts(at)) line.values[acting.tokens[at]] += amount;
    wait();
}

// Whether nothing would be left without the set's tokens. Only where the likeliest is one of them can that be.
DEVICE_CALL bool would_empty(Line line, const Acting &acting, Scratch &scratch) {
    float top = NOTHING;
    int possible = 0;
    for (int at = thread(); at < acting.count; at += num_threads())
        if (acting.counts(at)) {
            const float value = line.values[acting.tokens[at]];
            top = larger(value, top);
            possible += value > NOTHING;
        }
    if (max_of_threads(top, scratch) < acting.peak) return false;
    possible = sum_of_threads(possible, scratch);
    return possible > 0 && possible == (int)sum_of_possible(line, acting.peak, scratch).b;
}

// The share that the set's tokens would have with the bias.
DEVICE double share_after(Line line, const Acting &acting, Scratch &scratch) {
    const double before = weight_of_set(line, acting, 0.0f, scratch);
    const double after = weight_of_set(line, acting, acting.strength, scratch);
    return after / larger(acting.total - before + after, MIN_WEIGHT);
}

// Mask the tokens; the effect, or -1 where that would leave none and is not done.
DEVICE_CALL double mask_set(Line line, const Acting &acting, Scratch &scratch) {
    if (would_empty(line, acting, scratch)) return -1.0;
    const double before = weight_of_set(line, acting, 0.0f, scratch);
    add_to_set(line, acting, NOTHING);
    return smaller(before / acting.total, 1.0);
}

// Add the bias to the tokens. With q the set's probability and q' that afterwards, the effect is |q' - q|.
DEVICE_CALL double bias_set(Line line, const Acting &acting, Scratch &scratch) {
    const double before = weight_of_set(line, acting, 0.0f, scratch);
    const double after = weight_of_set(line, acting, acting.strength, scratch);
    add_to_set(line, acting, acting.strength);
    double new_total = larger(acting.total - before + after, MIN_WEIGHT);
    if (before > NEARLY_ALL * acting.total && acting.strength < 0.0f)  // as a difference it would be a rounding error
        new_total = weight(line, acting.peak, acting.coldness, scratch);
    return fabs(smaller(after / new_total, 1.0) - smaller(before / acting.total, 1.0));
}

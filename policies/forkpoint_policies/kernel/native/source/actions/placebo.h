// Placebos that change other tokens than the action does: by as much probability, or by as large a dose.
#pragma once

constexpr int PLACEBO_TOKENS = ORDERED_TOKENS;
constexpr int SHUFFLE = 1 << 20;  // a salt beyond those of the decisions; each rule and token adds to it
constexpr double CERTAIN = 1 - 1e-6;

DEVICE double logit_of(double share) { return log(share / (1 - share)); }

// Move as much probability as an action does whose tokens had `had` and have `has`; the effect.
//
// `others` is the row with the action's own tokens masked. Of its PLACEBO_TOKENS likeliest, in random order, those are
// taken that together have what the action's tokens had; one bias on all of them changes theirs by as much, if they
// have as much.
DEVICE_CALL double displace(Line line, Line others, double had, double has, const Acting &acting, unsigned long long seed,
                       int position, int rule, Scratch &scratch) {
    const int count = likeliest(others, PLACEBO_TOKENS, scratch);
    for (int at = thread(); at < count; at += num_threads()) {
        const float own = uniform(seed, position, SHUFFLE * (rule + 1) + scratch.order[at]);
        int rank = 0;
        for (int other = 0; other < count; ++other) {
            const float theirs = uniform(seed, position, SHUFFLE * (rule + 1) + scratch.order[other]);
            rank += theirs < own || (theirs == own && other < at);
        }
        scratch.tokens[rank] = scratch.order[at];
    }
    wait();
    for (int at = thread(); at < count; at += num_threads()) {
        const double depth = (double)((others.values[scratch.tokens[at]] - acting.peak) * acting.coldness);
        scratch.shares[at] = exp(depth) / acting.total;
    }
    wait();
    double mass = 0, held = 0;
    int taken = 0;
    for (int at = 0; at < count; ++at) {
        const double share = scratch.shares[at];
        if (mass < had && share > 0) held += share, taken = at + 1;
        mass += share;
    }
    if (had <= 0 || taken == 0) return 0.0;
    held = smaller(held, CERTAIN);
    const double wanted = smaller(larger(held + has - had, 0.0), CERTAIN);
    const float change = wanted <= 0 ? NOTHING : (float)((logit_of(wanted) - logit_of(held)) / acting.coldness);
    for (int at = thread(); at < taken; at += num_threads()) line.values[scratch.tokens[at]] += change;
    wait();
    return fabs(wanted - held);
}

// The placebo matched by dose: move the logits of tokens other than the action's own apart; the effect.
//
// Of the PLACEBO_TOKENS likeliest of `others`, the row with the action's own tokens masked, each is raised or lowered by
// half the spread, at random. Together they keep their probability, so that the action's own tokens keep theirs.
DEVICE_CALL double move_apart(Line line, Line others, float spread, const Acting &acting, unsigned long long seed, int position,
                         int rule, Scratch &scratch) {
    const int count = likeliest(others, PLACEBO_TOKENS, scratch);
    const double exponent = smaller((double)(spread / 2 * acting.coldness), MAX_EXPONENT);
    const double up = exp(exponent), down = exp(-exponent);
    double mass = 0, lifted = 0, moved = 0;
    for (int at = thread(); at < count; at += num_threads()) {
        const int token = scratch.order[at];
        const bool raised = uniform(seed, position, SHUFFLE * (rule + 1) + token) < 0.5f;
        const double share = exp((double)((others.values[token] - acting.peak) * acting.coldness)) / acting.total;
        const double factor = raised ? up : down;
        scratch.shares[at] = share, scratch.weighed[at] = factor;
        mass += share, lifted += share * factor;
    }
    const Sums sums = sums_of_threads({mass, lifted, 0.0}, scratch);
    const double mean = larger(sums.b / larger(sums.a, MIN_WEIGHT), MIN_WEIGHT), shift = log(mean) / acting.coldness;
    for (int at = thread(); at < count; at += num_threads())
        moved += scratch.shares[at] * fabs(scratch.weighed[at] / mean - 1);
    moved = sum_of_threads(moved, scratch);
    for (int at = thread(); at < count; at += num_threads()) {
        const int token = scratch.order[at];
        const bool raised = uniform(seed, position, SHUFFLE * (rule + 1) + token) < 0.5f;
        if (others.values[token] > NOTHING) line.values[token] += (float)((raised ? spread / 2 : -spread / 2) - shift);
    }
    wait();
    return moved / 2;
}

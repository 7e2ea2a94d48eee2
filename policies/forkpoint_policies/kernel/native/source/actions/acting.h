// What an action needs to know of a rule that acts on a row.
#pragma once

struct Acting {
    float strength;
    float peak;
    float coldness;  // 1 / the request's temperature, 1 for greedy requests
    double total;    // Σ e^((logit - peak) · coldness) before it
    float entropy = -1.0f;  // nats, of what would be sampled before it; negative where that was not measured
    int word_state;
    const int *tokens;  // that it acts on, and then the state in which each counts
    int count;
    bool has_states;    // those of a placebo have none

    DEVICE_MEMBER bool counts(int at) const { return !has_states || counts_in(tokens[count + at], word_state); }
};

// What the rules that fired do to a row, one after the other in the order of the program.
//
// A rule's effect is the total variation distance between the distributions that would be sampled before and after it,
// at the request's temperature: the smallest share of draws that any coupling of the two must change. For requests that
// take the likeliest token it is 1 where that token changes, else 0.
#pragma once

// A row that rules act on: the logits, or a copy of them under a program in shadow.
struct Target {
    Line line;
    bool is_copy;
};

DEVICE void protect(const Step &step, Target &target, bool shadow, Scratch &scratch) {
    if (!shadow || target.is_copy) return;
    float *own = copy_of(step, scratch, 0);
    copy(target.line, own);
    wait();
    target = {{own, target.line.size}, true};
}

DEVICE void write_effect(int *record, int rule, double effect) {
    if (is_first()) record[R_EFFECT + rule] = bits_of((float)effect);
}

// The tokens that a rule acts on: its own, or those that were sampled for the request, as of a placebo.
DEVICE void set_tokens(Acting &acting, const Tables &tables, const Request &request, int rule) {
    const Tokens sampled = sampled_for(tables, request, rule);
    const int *own = rule_of(request, rule);
    acting.has_states = sampled.count == 0;
    acting.tokens = sampled.count ? sampled.begin : tables.heap + request.program + own[TARGET];
    acting.count = sampled.count ? sampled.count : own[NUM_TARGET];
}

// One action, or what its placebo does instead; the effect. `left_alone`: a mask would have left no token.
DEVICE double apply(const Step &step, Line line, const Acting &acting, const Tables &tables, const Request &request,
                    int rule, bool &left_alone, Scratch &scratch) {
    const int *own = rule_of(request, rule), action = own[ACTION], control = own[CONTROL];
    const bool elsewhere = control == CONTROL_PROBABILITY || control == CONTROL_DOSE;
    Line changed = line;
    double has = 0;
    if (elsewhere) {  // on a copy, which is then without the tokens that it takes
        changed.values = copy_of(step, scratch, 1);
        copy(line, changed.values);
        wait();
        if (action == ACTION_BIAS) has = share_after(changed, acting, scratch);
    }
    double effect;
    if (action == ACTION_TEMPERATURE)
        effect = apply_temperature(changed, acting, scratch);
    else if (action == ACTION_MASK || (elsewhere && action == ACTION_BIAS))
        effect = mask_set(changed, acting, scratch);
    else if (action == ACTION_BIAS)
        effect = bias_set(changed, acting, scratch);
    else
        effect = truncate(changed, action, acting, scratch);
    if (effect < 0) {
        left_alone = left_alone || action == ACTION_MASK;
        effect = 0;
    }
    const unsigned long long seed = seed_of(tables, request.slot);
    const int position = scratch.decision.position;
    if (control == CONTROL_PROBABILITY && effect > 0)
        return displace(line, changed, effect, has, acting, seed, position, rule, scratch);
    if (control == CONTROL_DOSE) {
        const float spread = request.numbers[rule * RULE_FLOATS + SPREAD];
        return move_apart(line, changed, spread, acting, seed, position, rule, scratch);
    }
    return effect;
}

// Change a row of the logits as its decision says.
DEVICE_CALL void act(const Tables &tables, const Step &step, Line logits, Request &request, int *record, Scratch &scratch) {
    const Decision decision = scratch.decision;
    const bool shadow = request.head[IS_SHADOW];
    const float temperature = temperature_of(tables, request.slot), coldness = temperature > 0.0f ? 1.0f / temperature : 1.0f;
    Target target = {logits, false};
    bool changed = false, left_alone = false;
    float peak = scratch.measured.peak;
    int top = -1;

    for (int rule = 0; rule < request.head[NUM_RULES]; ++rule) {
        const int *own = rule_of(request, rule), action = own[ACTION];
        if (!(decision.fired >> rule & 1) || action == ACTION_OBSERVE || action == ACTION_FORCE ||
            action == ACTION_TREE || action == ACTION_STEER || action == ACTION_RECYCLE ||
            action == ACTION_RECYCLE_AGAIN)
            continue;
        protect(step, target, shadow, scratch);
        if (temperature == 0.0f && top < 0) top = find_likeliest(target.line, peak, scratch);
        double total = scratch.measured.total;
        if (changed) {
            peak = highest(target.line, scratch);
            if (peak == NOTHING) peak = 0.0f;
        }
        if (changed || coldness != 1.0f) total = weight(target.line, peak, coldness, scratch);
        const bool by_chance = own[CONTROL] == CONTROL_POSITIONS;
        const float entropy = by_chance ? decision.past_entropy : scratch.measured.entropy;
        Acting acting;
        acting.strength = evaluate(request.numbers + rule * RULE_FLOATS + STRENGTH, decision.position, entropy);
        acting.peak = peak, acting.coldness = coldness, acting.total = total, acting.word_state = decision.word_state;
        if (!changed && coldness == 1.0f) acting.entropy = scratch.measured.entropy;
        set_tokens(acting, tables, request, rule);
        double effect = apply(step, target.line, acting, tables, request, rule, left_alone, scratch);
        changed = true;
        if (temperature == 0.0f) {
            const int now = find(target.line, highest(target.line, scratch), scratch);
            effect = now != top;
            top = now;
        }
        write_effect(record, rule, effect);
    }

    const int *slot = tables.slots + request.slot * SLOT_INTS;
    if (decision.shut && has_limits(slot)) {  // what the limits exclude stays so when others are masked
        protect(step, target, shadow, scratch);
        const float top_logit = highest(target.line, scratch);
        const double total = weight(target.line, top_logit, coldness, scratch);
        const Possible possible = possible_tokens(target.line, slot, top_logit, coldness, total, scratch);
        keep_from(target.line, possible.limit, top_logit, coldness, scratch);
        wait();
    }
    for (int rule = 0; rule < request.head[NUM_RULES]; ++rule) {  // what a rule replaces must not be sampled elsewhere
        const int *own = rule_of(request, rule);
        if (!own[INSTEAD] || own[CONTROL] == CONTROL_POSITIONS) continue;
        if (decision.shut >> rule & 1) {
            protect(step, target, shadow, scratch);
            Acting acting;
            acting.peak = highest(target.line, scratch), acting.word_state = decision.word_state, acting.has_states = true;
            acting.tokens = tables.heap + request.program + own[TARGET], acting.count = own[NUM_TARGET];
            if (would_empty(target.line, acting, scratch))
                left_alone = true;
            else
                add_to_set(target.line, acting, NOTHING);
        }
        write_effect(record, rule, (decision.shut | decision.fired) >> rule & 1 ? scratch.replaced[rule] : 0.0f);
    }

    if (decision.forced_rule >= 0) {
        protect(step, target, shadow, scratch);
        const double effect = force(target.line, decision.forced_token, temperature, scratch);
        const int *own = rule_of(request, decision.forced_rule);
        if (!own[INSTEAD] || own[CONTROL] == CONTROL_POSITIONS) write_effect(record, decision.forced_rule, effect);
    }
    if (left_alone && is_first()) record[R_FLAGS] |= FLAG_LEFT_ALONE;
}

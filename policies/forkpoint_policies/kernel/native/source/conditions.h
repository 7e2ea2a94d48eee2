// Which rules of a row fire: what they look at in the logits, and the conditions that are held against it.
//
// All rules decide on what the model said, before any of them acts.
#pragma once

constexpr int MIN_FOR_RANK = 16;          // earlier tokens that a request needs before its own quantiles mean something
constexpr float CATCH_UP_TOKENS = 16.0f;
// Salts: each purpose has its own chance.
constexpr int SALT_COIN = 0, SALT_REPLACES = MAX_RULES, SALT_PLACE = 2 * MAX_RULES, SALT_PAST = 2 * MAX_RULES + 1;

// Σ e^((logit - peak) · coldness) over a set's tokens that count in this state of the word automaton, without those below
// a limit.
DEVICE_CALL double set_weight(Line line, const int *set, int count, int state, float peak, float coldness, float limit,
                         Scratch &scratch) {
    double total = 0;
    for (int at = thread(); at < count; at += num_threads())
        if (counts_in(set[count + at], state) && line.values[set[at]] >= limit)
            total += exp((double)((line.values[set[at]] - peak) * coldness));
    return sum_of_threads(total, scratch);
}

DEVICE bool has_token(const int *set, int count, int state, int token) {
    for (int at = 0; at < count; ++at)
        if (set[at] == token && counts_in(set[count + at], state)) return true;
    return false;
}

// Into scratch.at, what each rule bounds, at its own temperature.
DEVICE_CALL void measure_for_rules(Line line, const Request &request, Scratch &scratch) {
    const Measured &plain = scratch.measured;
    float entropy = plain.entropy, varentropy = plain.varentropy, top = plain.top_probability, before = 1.0f;
    for (int rule = 0; rule < request.head[NUM_RULES]; ++rule) {
        const float temperature = request.numbers[rule * RULE_FLOATS + AT_TEMPERATURE];
        if (temperature == 1.0f) {
            entropy = plain.entropy, varentropy = plain.varentropy, top = plain.top_probability;
        } else if (temperature != before) {
            const Sums sums = moments(line, plain.peak, 1.0f / temperature, scratch);
            const double mean = sums.b / sums.a;
            entropy = (float)larger(log(sums.a) - mean, 0.0);
            varentropy = (float)larger(sums.c / sums.a - mean * mean, 0.0);
            top = (float)(1.0 / sums.a);
        }
        before = temperature;
        if (is_first()) scratch.at[rule][0] = entropy, scratch.at[rule][1] = varentropy, scratch.at[rule][2] = top;
    }
    wait();
}

// What is known of a row beside its signals, where some rule bounds it.
struct Seen {
    float confidence;  // nats
    float end_rank;    // of the token that ends the reasoning, 1 for the likeliest; infinite where it is not possible
    const float *hidden;  // [NUM_HIDDEN], or null
};

// What the rules look at in the logits: in scratch, each rule's connectors and what it replaces.
DEVICE_CALL Seen look(const Tables &tables, Line line, const Request &request, Scratch &scratch) {
    const int *program = tables.heap + request.program;
    const int uses = request.head[USES], state = request.cell[WORD_STATE];
    const float peak = scratch.measured.peak, temperature = temperature_of(tables, request.slot);
    const int *slot = tables.slots + request.slot * SLOT_INTS;
    Possible possible = {NOTHING, scratch.measured.total};
    int top = -1;
    if (uses & USES_INSTEAD) {
        if (temperature == 0.0f)
            top = find_likeliest(line, peak, scratch);
        else if (temperature != 1.0f)
            possible.total = weight(line, peak, 1.0f / temperature, scratch);
        if (temperature > 0.0f && has_limits(slot))
            possible = possible_tokens(line, slot, peak, 1.0f / temperature, possible.total, scratch);
    }
    for (int rule = 0; rule < request.head[NUM_RULES]; ++rule) {
        const int *own = rule_of(request, rule);
        double mass = 0, replaced = 0;
        bool has_likeliest = false;
        if (own[NUM_MASS]) {
            const int *set = program + own[MASS], count = own[NUM_MASS];
            mass = set_weight(line, set, count, state, peak, 1.0f, NOTHING, scratch);
            if (own[BOUNDED] >> SIGNAL_LIKELIEST & 1)
                has_likeliest = set_weight(line, set, count, state, peak, 1.0f, peak, scratch) > 0;
        }
        if (own[INSTEAD]) {
            const int *set = program + own[TARGET], count = own[NUM_TARGET];
            if (temperature == 0.0f)
                replaced = has_token(set, count, state, top);
            else
                replaced = set_weight(line, set, count, state, peak, 1.0f / temperature, possible.limit, scratch) /
                           possible.total;
        }
        if (is_first()) {
            scratch.mass[rule] = (float)(mass / scratch.measured.total), scratch.replaced[rule] = (float)replaced;
            scratch.has_likeliest[rule] = has_likeliest;
        }
    }
    Seen seen = {0.0f, INFINITY, nullptr};
    if (uses & USES_WINDOW) {
        const int count = likeliest(line, CONFIDENCE_TOKENS, scratch);
        double mean = 0;
        for (int at = 0; at < count; ++at) mean += line.values[scratch.order[at]];
        seen.confidence = (float)(peak + log((double)scratch.measured.total) - mean / larger(count, 1));
    }
    if (uses & USES_TEMPERATURES) measure_for_rules(line, request, scratch);
    const int end = request.head[REASONING_END];
    if (uses & USES_END_RANK && end >= 0 && line.values[end] > NOTHING)
        seen.end_rank = 1.0f + (float)num_above(line, line.values[end], scratch);
    wait();
    return seen;
}

// Into scratch.counts, how many of the request's earlier entropies lie in each bin, those after draft tokens of this
// step with them.
DEVICE void gather_history(const Tables &tables, int state, int offset, Scratch &scratch) {
    for (int bin = thread(); bin < HISTORY_BINS; bin += num_threads()) {
        int count = tables.history[state * HISTORY_BINS + bin];
        for (int draft = 0; draft < offset; ++draft)
            count += tables.cells[(state * tables.depth + draft) * CELL_INTS + ENTROPY_BIN] == bin;
        scratch.counts[bin] = count;
    }
    wait();
}

// Which of HISTORY_BINS an entropy lies in: equal steps of its logarithm, 4 % each.
DEVICE int bin_of(float entropy) {
    const float *edges = BIN_EDGES_NATS;
    int low = 0, high = HISTORY_BINS - 1;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (entropy < edges[middle])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

// The share of earlier entropies in lower bins; -1 while there are too few of them.
DEVICE float rank_of_bin(int bin, const Scratch &scratch) {
    int count = 0, below = 0;
    for (int other = 0; other < HISTORY_BINS; ++other) {
        count += scratch.counts[other];
        below += other < bin ? scratch.counts[other] : 0;
    }
    return count >= MIN_FOR_RANK ? (float)below / (float)count : -1.0f;
}

// An entropy in nats, sampled from the request's past ones and this one.
DEVICE_CALL float past_entropy(int bin, float chance, Scratch &scratch) {
    ++scratch.counts[bin];
    int count = 0;
    for (int other = 0; other < HISTORY_BINS; ++other) count += scratch.counts[other];
    const float wanted = chance * (float)count;
    int reached = 0, found = HISTORY_BINS - 1;
    for (int other = 0; other < HISTORY_BINS; ++other) {
        reached += scratch.counts[other];
        if ((float)reached > wanted) {
            found = other;
            break;
        }
    }
    return MIN_BIN_NATS * expf(((float)found + 0.5f) * LOGARITHMIC_BIN);
}

// The mean over a window that ends here, of a slot's running sums; infinite before the window is full.
DEVICE float windowed_mean(const double *sums, int position, int width) {
    if (position + 1 < width) return INFINITY;
    return (float)((sums[(position + 1) % SUMS] - sums[(position + 1 - width) % SUMS]) / larger(width, 1));
}

// The entropy that a request's window sums up: at the temperature of its rules that bound the mean.
DEVICE float windowed_entropy(const Request &request, const Scratch &scratch) {
    if (request.head[USES] & USES_TEMPERATURES)
        for (int rule = 0; rule < request.head[NUM_RULES]; ++rule)
            if (rule_of(request, rule)[ENTROPY_WINDOW] > 0) return scratch.at[rule][0];
    return scratch.measured.entropy;
}

// Whether a rule may act here regardless of the model. In a tool call nothing but observation is possible.
DEVICE bool is_placed(const int *rule, int region, int position) {
    if (region & IN_TOOL_CALL && rule[ACTION] != ACTION_OBSERVE) return false;
    const int here = region & IN_REASONING ? REGION_REASONING : REGION_ANSWER;
    return (rule[REGION] == REGION_ANY || rule[REGION] == here) && position >= rule[FIRST_POSITION] &&
           position <= rule[LAST_POSITION] && position % rule[EVERY] == 0;
}

// Whether a signal lies between a rule's bounds; it may itself be infinite.
DEVICE bool lies_within(const float *numbers, int signal, float value) {
    const float low = numbers[LOW + signal], high = numbers[HIGH + signal];
    return (value > low || low == -INFINITY) && (value < high || high == INFINITY);
}

// Whether everything that a rule bounds lies within its bounds.
DEVICE_CALL bool holds(const Tables &tables, Line line, const Request &request, int rule, Seen seen, float rank,
                  const Scratch &scratch) {
    const int *own = rule_of(request, rule), *cell = request.cell, bounded = own[BOUNDED];
    const float *numbers = request.numbers + rule * RULE_FLOATS;
    const int position = cell[POSITION];
    if (position - cell[CONNECTOR + rule] >= own[SINCE_BELOW]) return false;
    if (own[NEEDS_PREVIOUS] && !(cell[AFTER_PREVIOUS] >> rule & 1)) return false;
    const bool own_temperature = request.head[USES] & USES_TEMPERATURES;
    for (int signal = 0; signal < NUM_SIGNALS; ++signal) {
        if (!(bounded >> signal & 1)) continue;
        float value = 0.0f;
        if (signal == SIGNAL_ENTROPY)
            value = own_temperature ? scratch.at[rule][0] : scratch.measured.entropy;
        else if (signal == SIGNAL_VARENTROPY)
            value = own_temperature ? scratch.at[rule][1] : scratch.measured.varentropy;
        else if (signal == SIGNAL_TOP_PROBABILITY)
            value = own_temperature ? scratch.at[rule][2] : scratch.measured.top_probability;
        else if (signal == SIGNAL_MASS)
            value = scratch.mass[rule];
        else if (signal == SIGNAL_LIKELIEST)
            value = scratch.has_likeliest[rule] ? 1.0f : 0.0f;
        else if (signal == SIGNAL_RANK)
            value = rank;
        else if (signal == SIGNAL_CONFIDENCE)
            value = windowed_mean(tables.sums + (long long)request.state * SUMS, position, own[WINDOW]);
        else if (signal == SIGNAL_MEAN_ENTROPY)
            value = windowed_mean(tables.entropy_sums + (long long)request.state * SUMS, position, own[ENTROPY_WINDOW]);
        else if (signal == SIGNAL_END_RANK)
            value = seen.end_rank;
        else if (signal == SIGNAL_END_MARGIN) {
            const int end = request.head[REASONING_END];
            value = end >= 0 ? scratch.measured.peak - line.values[end] : INFINITY;
        } else if (signal >= SIGNAL_EFFECTIVE_RANK)  // NaN lies within no bounds
            value = seen.hidden ? seen.hidden[signal - SIGNAL_EFFECTIVE_RANK] : NAN;
        if (!lies_within(numbers, signal, value)) return false;
    }
    return true;
}

// With which probability a rule acts here by chance: as often as its conditions held so far.
//
// What it owes, its conditions having held more often than it acted, is made up for within about CATCH_UP_TOKENS.
DEVICE_CALL float owed(const Request &request, int rule, float held_here) {
    const float held = request.chances[HELD + rule], placed = request.chances[PLACED + rule];
    float share = held_here;
    if (placed > 0.0f)
        share = held / larger(placed, 1.0f) + (held - (float)request.cell[FIRED + rule]) / CATCH_UP_TOKENS;
    return smaller(larger(share, 0.0f), 1.0f);
}

// Of the rules that fired, the one whose text is written here, or that of the text that is under way: what it writes,
// and which rules are left.
DEVICE_CALL void choose_text(const Tables &tables, Line line, Request &request, Decision &decision, bool &refused) {
    int *cell = request.cell;
    const int writing = cell[TEXT_RULE], num_rules = request.head[NUM_RULES];
    int rule = writing;
    for (int other = 0; rule < 0 && other < num_rules; ++other)
        if (decision.fired >> other & 1 && rule_of(request, other)[ACTION] == ACTION_FORCE) rule = other;
    if (rule >= 0) {
        const Tokens text = text_of(tables, request, rule);
        decision.forced_token = text.begin[writing >= 0 ? cell[TEXT_OFFSET] : 0];
        refused = line.values[decision.forced_token] == NOTHING;
        decision.forced_rule = refused ? NONE : rule;
    }
    for (int other = 0; other < num_rules; ++other) {
        const int *own = rule_of(request, other);
        const bool forces = own[ACTION] == ACTION_FORCE;
        if (forces ? other != decision.forced_rule || writing >= 0 : decision.forced_rule >= 0 && !own[FROM_HERE])
            decision.fired &= ~(1 << other);
    }
    if (decision.forced_rule >= 0) decision.shut = 0;
    if (refused) cell[TEXT_RULE] = NONE;
    if (writing < 0) cell[TEXT_OFFSET] = 0;
    cell[TEXT_PENDING] = decision.forced_rule;
}

// Which rules fire, by one thread: into scratch.decision, the row's record and the request's state.
DEVICE_CALL void decide(const Tables &tables, Line line, Request &request, Seen seen, int *record, Scratch &scratch) {
    const int num_rules = request.head[NUM_RULES], uses = request.head[USES], slot = request.slot;
    int *cell = request.cell;
    const int position = cell[POSITION], region = cell[IN_REGION];
    const unsigned long long seed = seed_of(tables, slot);
    const float temperature = temperature_of(tables, slot);
    int bin = 0;
    float rank = -1.0f;
    if (uses & USES_HISTORY) bin = bin_of(scratch.measured.entropy), rank = rank_of_bin(bin, scratch);
    if (uses & USES_WINDOW) {
        double *sums = tables.sums + (long long)request.state * SUMS;
        sums[(position + 1) % SUMS] = sums[position % SUMS] + seen.confidence;
    }
    if (uses & USES_ENTROPIES) {
        double *sums = tables.entropy_sums + (long long)request.state * SUMS;
        sums[(position + 1) % SUMS] = sums[position % SUMS] + windowed_entropy(request, scratch);
    }

    Decision decision = {position, cell[WORD_STATE], 0, 0, NONE, NONE, scratch.measured.entropy};
    int awaiting = 0;  // what they replace may be sampled here
    float largest_mass = 0.0f, share_begin = 0.0f, circle_begin = 0.0f;
    const float place = uniform(seed, position, SALT_REPLACES), circle = uniform(seed, position, SALT_PLACE);
    for (int rule = 0; rule < num_rules; ++rule) {
        const int *own = rule_of(request, rule);
        largest_mass = larger(largest_mass, scratch.mass[rule]);
        bool placed = is_placed(own, region, position) && cell[FIRED + rule] < own[AT_MOST];
        if (placed && own[HAS_COIN])
            placed = uniform(seed, position, SALT_COIN + rule) <
                     evaluate(request.numbers + rule * RULE_FLOATS + PROBABILITY, position, scratch.measured.entropy);
        const bool by_chance = own[CONTROL] == CONTROL_POSITIONS;
        const bool met = (placed || uses & USES_CHANCES) && holds(tables, line, request, rule, seen, rank, scratch);
        bool acts = placed && met;
        if (own[FIRES_BY_TOKEN]) {
            awaiting |= acts << rule;
            acts = false;
        } else if (own[INSTEAD] && !by_chance) {
            const float share = acts ? scratch.replaced[rule] : 0.0f;
            const bool sampled = place >= share_begin && place < share_begin + share;
            share_begin += share;
            if (acts && !sampled && temperature > 0.0f) decision.shut |= 1 << rule;  // greedy: another is taken anyway
            acts = acts && sampled;
        }
        if (uses & USES_CHANCES) {
            const float held = met && placed ? (own[INSTEAD] ? scratch.replaced[rule] : 1.0f) : 0.0f;
            if (by_chance) {  // the rules' shares lie side by side on a circle, on which the position's number falls
                const float share = owed(request, rule, held), moved_on = circle - circle_begin;
                acts = placed && moved_on - floorf(moved_on) < share;
                circle_begin += share;
            }
            request.chances[PENDING_HELD + rule] = held;
            request.chances[PENDING_PLACED + rule] = placed;
        }
        decision.fired |= acts << rule;
    }
    bool refused = false;
    if (uses & USES_TEXTS) choose_text(tables, line, request, decision, refused);
    if (decision.forced_rule < 0) decision.fired |= awaiting;
    if (uses & USES_HISTORY) {
        decision.past_entropy = past_entropy(bin, uniform(seed, position, SALT_PAST), scratch);
        cell[ENTROPY_BIN] = bin;
    }
    cell[PENDING] = decision.fired;
    scratch.decision = decision;

    record[R_FLAGS] |= decision.fired << FLAG_RULES_SHIFT | (region & IN_REASONING ? FLAG_IN_REASONING : 0) |
                       (decision.forced_rule >= 0 ? FLAG_FORCED : 0) | (refused ? FLAG_REFUSED : 0);
    record[R_MASS] = bits_of(largest_mass);
    record[R_CONFIDENCE] = bits_of(seen.confidence);
}

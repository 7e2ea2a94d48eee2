// A request's state after one more token.
#pragma once

DEVICE float temperature_of(const Tables &tables, int slot) { return float_of(tables.slots[slot * SLOT_INTS + TEMPERATURE]); }

DEVICE unsigned long long seed_of(const Tables &tables, int slot) {
    const unsigned *numbers = (const unsigned *)tables.slots + slot * SLOT_INTS;
    return (unsigned long long)numbers[SEED_HIGH] << 32 | numbers[SEED_LOW];
}

DEVICE const int *rule_of(const Request &request, int rule) { return request.head + HEAD + rule * RULE_INTS; }

// Tokens in the heap.
struct Tokens {
    const int *begin;
    int count;
};

// Those that were sampled for a request to replace a rule's own, as of a placebo.
DEVICE Tokens sampled_for(const Tables &tables, const Request &request, int rule) {
    const int sampled = tables.slots[request.slot * SLOT_INTS + SAMPLED];
    if (sampled < 0 || tables.heap[sampled + 2 * rule + 1] == 0) return {nullptr, 0};
    return {tables.heap + sampled + tables.heap[sampled + 2 * rule], tables.heap[sampled + 2 * rule + 1]};
}

// The text that a rule writes.
DEVICE Tokens text_of(const Tables &tables, const Request &request, int rule) {
    const Tokens sampled = sampled_for(tables, request, rule);
    if (sampled.count) return sampled;
    const int *own = rule_of(request, rule);
    return {tables.heap + request.program + own[TEXT], own[TEXT_LENGTH]};
}

DEVICE void load_program(const Tables &tables, Request &request) {
    const int *slot = tables.slots + request.slot * SLOT_INTS;
    const int num_rules = tables.heap[request.program + NUM_RULES];
    for (int at = thread(); at < HEAD + num_rules * RULE_INTS; at += num_threads())
        request.head[at] = tables.heap[request.program + at];
    for (int at = thread(); at < num_rules * RULE_FLOATS; at += num_threads())
        request.numbers[at] = tables.floats[slot[PROGRAM_FLOATS] + at];
    wait();
}

DEVICE void load_state(const Tables &tables, long long cell, Request &request) {
    for (int at = thread(); at < CELL_INTS; at += num_threads()) request.cell[at] = tables.cells[cell * CELL_INTS + at];
    if (request.head[USES] & USES_CHANCES)
        for (int at = thread(); at < CELL_FLOATS; at += num_threads())
            request.chances[at] = tables.chances[cell * CELL_FLOATS + at];
    wait();
}

DEVICE void store_state(const Tables &tables, long long cell, const Request &request) {
    for (int at = thread(); at < CELL_INTS; at += num_threads()) tables.cells[cell * CELL_INTS + at] = request.cell[at];
    if (request.head[USES] & USES_CHANCES)
        for (int at = thread(); at < CELL_FLOATS; at += num_threads())
            tables.chances[cell * CELL_FLOATS + at] = request.chances[at];
    wait();
}

// One more token is there.
DEVICE_CALL void advance(const Tables &tables, Request &request, int token) {
    if (is_first()) {
        const int *head = request.head, *program = tables.heap + request.program;
        int *cell = request.cell;
        const int num_rules = head[NUM_RULES], uses = head[USES], before = cell[WORD_STATE];
        int previous = 0;
        for (int rule = 0; rule < num_rules; ++rule) {
            const int *own = rule_of(request, rule);
            if (cell[PENDING] >> rule & 1 &&
                (!own[FIRES_BY_TOKEN] || is_in(program + own[REPLACED_TOKENS], own[NUM_REPLACED], before, token)))
                ++cell[FIRED + rule];
            if (uses & USES_MARKS) {
                if (is_in(program + own[SINCE], own[NUM_SINCE], before, token)) cell[CONNECTOR + rule] = cell[POSITION];
                if (is_in(program + own[PREVIOUS], own[NUM_PREVIOUS], before, token)) previous |= 1 << rule;
            }
        }
        cell[AFTER_PREVIOUS] = previous;
        cell[IN_REGION] = follow_regions(program, head, cell[IN_REGION], token);
        cell[WORD_STATE] = follow_words(program, head, before, token);
        if (uses & USES_TEXTS) {
            const int rule = cell[TEXT_PENDING], offset = cell[TEXT_OFFSET];
            bool continues = false;
            if (rule >= 0) {
                const Tokens text = text_of(tables, request, rule);
                // another token may have been sampled instead: the end of a thinking budget, say
                continues = offset + 1 < text.count && text.begin[offset] == token;
            }
            cell[TEXT_RULE] = continues ? rule : NONE;
            cell[TEXT_OFFSET] = continues ? offset + 1 : 0;
        }
        if (uses & USES_CHANCES)
            for (int rule = 0; rule < MAX_RULES; ++rule) {
                request.chances[HELD + rule] += request.chances[PENDING_HELD + rule];
                request.chances[PLACED + rule] += request.chances[PENDING_PLACED + rule];
            }
    }
    wait();
}

// The state of a request before the row after its committed tokens; false where nothing will be sampled.
//
// It starts from the cell of the last draft that was accepted. The pieces of a prompt before its last one are not
// sampled from; and after a preemption a request's own tokens are computed again like a prompt.
DEVICE bool start_request(const Tables &tables, Request &request, long long generated, int last_token) {
    const long long first = request.state * tables.depth;
    const int evaluated = tables.cells[first * CELL_INTS + POSITION];
    if (generated < evaluated) return false;
    const long long accepted = generated - evaluated;
    load_program(tables, request);
    load_state(tables, first + larger(smaller(accepted, tables.depth) - 1, 0ll), request);
    if (accepted > 0) {
        if (request.head[USES] & USES_HISTORY && is_first())
            for (long long level = 0; level < smaller(accepted, tables.depth); ++level)
                ++tables.history[request.state * HISTORY_BINS + tables.cells[(first + level) * CELL_INTS + ENTROPY_BIN]];
        advance(tables, request, last_token);
    }
    if (is_first()) request.cell[POSITION] = (int)generated;
    wait();
    return true;
}

// The state of a request before the row after one more draft token.
DEVICE void next_row(const Tables &tables, Request &request, int last_token) {
    advance(tables, request, last_token);
    if (is_first()) ++request.cell[POSITION];
    wait();
}

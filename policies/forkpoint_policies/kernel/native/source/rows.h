// One step, row by row: bring a request's state up to date, look, decide, act, and write down what was done.
#pragma once

// The likeliest tokens of a row, with their probabilities at temperature 1.
DEVICE_CALL void write_likeliest(const Step &step, long long row, Line line, int wanted, Scratch &scratch) {
    const int count = likeliest(line, wanted, scratch);
    for (int at = thread(); at < wanted; at += num_threads()) {
        const int token = at < count ? scratch.order[at] : NONE;
        const float depth = token >= 0 ? line.values[token] - scratch.measured.peak : NOTHING;
        step.likeliest[row * step.alternatives + at] = token;
        step.probabilities[row * step.alternatives + at] = (float)(exp((double)depth) / scratch.measured.total);
    }
    wait();
}

// The self-certainty of a row: the divergence KL(U ‖ p) of the uniform distribution over the tokens that are allowed
// from the model's own, -1/V Σ ln(V p) (arXiv:2502.18581).
DEVICE_CALL void write_certainty(const Step &step, long long row, Line line, Scratch &scratch) {
    const Sums sums = sum_of_possible(line, scratch.measured.peak, scratch);
    const double size = larger(sums.b, 1.0);
    if (is_first()) step.certainty[row] = (float)(log((double)scratch.measured.total) - sums.a / size - log(size));
    wait();
}

// Which rules of a row fire. Each rule's columns of the record are written by all threads.
DEVICE void decide_row(const Tables &tables, const Step &step, long long row, Line line, Request &request, int offset,
                       const float *hidden, int *record, Scratch &scratch) {
    const Measured measured = measured_row(step, row, line, scratch);
    if (is_first()) {
        scratch.measured = measured;
        record[R_ENTROPY] = bits_of(measured.entropy), record[R_VARENTROPY] = bits_of(measured.varentropy);
        record[R_TOP_PROBABILITY] = bits_of(measured.top_probability);
    }
    wait();
    Seen seen = look(tables, line, request, scratch);
    seen.hidden = hidden;
    if (request.head[USES] & USES_HISTORY) gather_history(tables, request.state, offset, scratch);
    if (is_first()) decide(tables, line, request, seen, record, scratch);
    wait();
    if (request.head[USES] & USES_CHANCES)
        for (int rule = thread(); rule < MAX_RULES; rule += num_threads()) {
            record[R_HELD + rule] = bits_of(request.chances[PENDING_HELD + rule]);
            record[R_PLACED + rule] = bits_of(request.chances[PENDING_PLACED + rule]);
        }
    store_state(tables, request.state * tables.depth + offset, request);
}

// Do what was decided for a row.
DEVICE void act_on_row(const Tables &tables, const Step &step, long long row, Line line, Request &request, int *record,
                       Scratch &scratch) {
    const int wanted = tables.slots[request.slot * SLOT_INTS + ALTERNATIVES];
    if (wanted > 0) {
        write_likeliest(step, row, line, wanted, scratch);
        if (request.head[USES] & USES_TREE) write_certainty(step, row, line, scratch);
    }
    const Decision &decision = scratch.decision;
    if (decision.fired || decision.shut || decision.forced_rule >= 0) act(tables, step, line, request, record, scratch);
    for (int at = thread(); at < wanted; at += num_threads()) {  // negative where the policy took the token away
        const int token = step.likeliest[row * step.alternatives + at];
        float &probability = step.probabilities[row * step.alternatives + at];
        if (token >= 0 && line.values[token] == NOTHING) probability = -probability;
    }
    wait();
    const int sent = sent_token(tables, request.slot, decision.position);
    if (sent >= 0) keep_only(line, sent, 0.0f);
    wait();
}

// Nothing yet is recorded of a row.
DEVICE void start_record(const Step &step, long long row) {
    for (int at = thread(); at < RECORD_COLUMNS; at += num_threads()) step.record[row * RECORD_COLUMNS + at] = 0;
    for (int at = thread(); at < step.alternatives; at += num_threads()) {
        step.likeliest[row * step.alternatives + at] = NONE;
        step.probabilities[row * step.alternatives + at] = 0.0f;
    }
    if (is_first()) step.certainty[row] = 0.0f;
    wait();
}

// All rows of the request whose first row this is; nothing where it is not. Records of rows from which nothing will be
// sampled have the position NONE.
DEVICE void step_request(const Tables &tables, const Batch &batch, const Step &step, long long first, Request &request,
                         Scratch &scratch) {
    const int slot = batch.slots[first], program = slot >= 0 ? tables.slots[slot * SLOT_INTS + PROGRAM] : NONE;
    if (program < 0) {
        start_record(step, first);
        if (is_first()) step.record[first * RECORD_COLUMNS + R_POSITION] = NONE;
        return;
    }
    if (first > 0 && batch.slots[first - 1] == slot) return;
    const int *numbers = tables.slots + slot * SLOT_INTS;
    if (is_first()) request.slot = slot, request.program = program, request.state = numbers[STATE];
    wait();
    const long long generated = batch.positions[first] + 1 - batch.prompt_lens[slot] + numbers[NUM_SHARED];
    const bool samples = start_request(tables, request, generated, batch.last_tokens[first]);
    for (long long row = first; row < batch.rows && batch.slots[row] == slot; ++row) {
        int *record = step.record + row * RECORD_COLUMNS;
        start_record(step, row);
        if (samples && row > first) next_row(tables, request, batch.last_tokens[row]);
        if (is_first()) {
            record[R_HANDLE] = numbers[HANDLE], record[R_ADDRESS] = numbers[ADDRESS];
            record[R_POSITION] = samples ? request.cell[POSITION] : NONE;
            record[R_LAST_TOKEN] = batch.last_tokens[row];
            record[R_FLAGS] = row > first ? FLAG_DRAFT : 0;
        }
        if (!samples) continue;
        const Line line = {step.logits + row * step.stride, (int)step.vocabulary};
        const float *hidden = batch.hidden ? batch.hidden + row * NUM_HIDDEN : nullptr;
        decide_row(tables, step, row, line, request, (int)(row - first), hidden, record, scratch);
        act_on_row(tables, step, row, line, request, record, scratch);
    }
}

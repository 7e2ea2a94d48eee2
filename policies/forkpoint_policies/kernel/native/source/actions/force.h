// Forced tokens: those of a rule's text, and those that were sent with the request.
#pragma once

// Leave only a token; the effect.
DEVICE_CALL double force(Line line, int token, float temperature, Scratch &scratch) {
    const float peak = highest(line, scratch);
    double effect = 1.0;
    if (peak > NOTHING && temperature == 0.0f)
        effect = find(line, peak, scratch) != token;
    else if (peak > NOTHING)
        effect = 1.0 - exp((double)((line.values[token] - peak) / temperature)) / weight(line, peak, 1.0f / temperature, scratch);
    wait();
    keep_only(line, token, 0.0f);
    wait();
    return effect;
}

// The token that was sent with the request for a position, or NONE.
DEVICE int sent_token(const Tables &tables, int slot, int position) {
    const int *numbers = tables.slots + slot * SLOT_INTS, place = position - numbers[NUM_SHARED];
    if (numbers[FORCED] < 0 || place < 0 || place >= numbers[NUM_FORCED]) return NONE;
    return tables.heap[numbers[FORCED] + place];
}

// The automata of words and regions, followed token by token by binary search in the heap.
#pragma once

// The place of a pair in two sorted arrays of `count` numbers that lie one after the other; -1 without one.
DEVICE_CALL int look_up(const int *table, int count, int first, int second) {
    int low = 0, high = count;
    while (low < high) {
        const int middle = (low + high) / 2, here = table[middle];
        if (here < first || (here == first && table[count + middle] < second))
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && table[low] == first && table[count + low] == second ? low : -1;
}

// The state of the word automaton after a token.
DEVICE_CALL int follow_words(const int *program, const int *head, int state, int token) {
    if (head[WORD_FREE] < 0) return state;
    int count = head[NUM_MOVES], at = look_up(program + head[MOVES], count, state, token);
    if (at >= 0) return program[head[MOVES] + 2 * count + at];
    count = head[NUM_TAILS], at = look_up(program + head[TAILS], count, 0, token);
    if (at >= 0) return program[head[TAILS] + 2 * count + at];
    return program[head[WORD_FREE] + token / 32] >> (token % 32) & 1 ? WORD_STATE_FREE : WORD_STATE_INSIDE;
}

// The region after a token.
DEVICE_CALL int follow_regions(const int *program, const int *head, int state, int token) {
    const int count = head[NUM_REGIONS];
    int at = look_up(program + head[REGIONS], count, state, token);
    if (at < 0 && (state & REGION_HOME) != state)
        at = look_up(program + head[REGIONS], count, state & REGION_HOME, token);
    return at >= 0 ? program[head[REGIONS] + 2 * count + at] : state & REGION_HOME;
}

// Whether a token that comes in this state of the word automaton is in a sorted set of states and tokens.
DEVICE bool is_in(const int *set, int count, int state, int token) {
    return look_up(set, count, state, token) >= 0 || look_up(set, count, ANY_STATE, token) >= 0;
}

// Whether a token that stands with this state in a set counts in a state of the word automaton.
DEVICE bool counts_in(int listed, int state) { return listed == ANY_STATE || listed == state; }

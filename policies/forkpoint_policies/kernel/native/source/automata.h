// The automata of words and regions, and sets of pairs, followed token by token in the heap.
//
// Pairs lie in buckets by their hash (encode.py): where each bucket begins, then the pairs' first numbers, their second
// ones, and what belongs to each.
#pragma once

DEVICE int num_buckets(int count) {  // a power of two
    int buckets = 1;
    while (buckets < count) buckets *= 2;
    return buckets;
}

// The first number of a pair in a table of `count`, after which the others come at a distance of `count` each; null
// without such a pair.
DEVICE_CALL const int *look_up(const int *table, int count, int first, int second) {
    const int buckets = num_buckets(count), *firsts = table + buckets + 1;
    unsigned hash = (unsigned)first * 0x9E3779B1u ^ (unsigned)second * 0x85EBCA77u;
    hash = (hash ^ hash >> 15) & (unsigned)(buckets - 1);
    for (int at = table[hash], end = table[hash + 1]; at < end; ++at)
        if (firsts[at] == first && firsts[count + at] == second) return firsts + at;
    return nullptr;
}

// The state of the word automaton after a token.
DEVICE_CALL int follow_words(const int *program, const int *head, int state, int token) {
    if (head[WORD_FREE] < 0) return state;
    if (const int *move = look_up(program + head[MOVES], head[NUM_MOVES], state, token)) return move[2 * head[NUM_MOVES]];
    if (const int *tail = look_up(program + head[TAILS], head[NUM_TAILS], 0, token)) return tail[2 * head[NUM_TAILS]];
    return program[head[WORD_FREE] + token / 32] >> (token % 32) & 1 ? WORD_STATE_FREE : WORD_STATE_INSIDE;
}

// The region after a token.
DEVICE_CALL int follow_regions(const int *program, const int *head, int state, int token) {
    const int count = head[NUM_REGIONS];
    const int *move = look_up(program + head[REGIONS], count, state, token);
    if (!move && (state & REGION_HOME) != state)
        move = look_up(program + head[REGIONS], count, state & REGION_HOME, token);
    return move ? move[2 * count] : state & REGION_HOME;
}

// Whether a token that comes in this state of the word automaton is in a set of states and tokens.
DEVICE bool is_in(const int *set, int count, int state, int token) {
    return count && (look_up(set, count, state, token) || look_up(set, count, ANY_STATE, token));
}

// Whether a token that stands with this state in a set counts in a state of the word automaton.
DEVICE bool counts_in(int listed, int state) { return listed == ANY_STATE || listed == state; }

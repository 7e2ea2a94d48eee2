// What a step reads and writes. The columns of each table are declared in columns.py, which the build turns into
// constants: a program's numbers, a slot's, a cell's and a record's have the same names there and here.
#pragma once

struct Tables {
    const int *heap;      // [numbers], programs and texts
    const float *floats;  // [numbers]
    const int *slots;     // [slots, SLOT_INTS]
    int *cells;            // [states * depth, CELL_INTS]
    float *chances;        // [states * depth, CELL_FLOATS]
    int *history;          // [states, HISTORY_BINS], how many of the request's entropies lie in each bin
    double *sums;          // [states, SUMS], of confidences, nats
    double *entropy_sums;  // [states, SUMS], nats
    long long depth;       // the cells of a state: as many rows as a request can have in a step
};

// Which request each row of the logits belongs to, and where it is. A request's rows follow each other: the one after
// its committed tokens, then one after each draft token.
struct Batch {
    const int *slots;            // [rows], NONE for rows without a request
    const long long *positions;  // [rows], of the row's last token in its prompt and answer
    const int *last_tokens;      // [rows]
    const int *prompt_lens;      // [slots], tokens
    const float *hidden;         // [rows, NUM_HIDDEN], NaN where not known; null where no request asks for any
    long long rows;
};

struct Step {
    float *logits;         // [rows, stride], of which `vocabulary` are used
    long long stride;
    long long vocabulary;
    int *record;           // [rows, RECORD_COLUMNS], floats by their bits
    int *likeliest;        // [rows, alternatives]
    float *probabilities;  // [rows, alternatives]
    float *certainty;      // [rows] nats, of rows with alternatives under a policy that branches
    long long alternatives;
    float *moments;        // [rows, parts of a row, 4], of thread blocks (block.h); null on a CPU
    float *copies;         // [copies, 2, vocabulary], lent to thread blocks; null on a CPU
    int *lent;             // [copies], 1 while a block has it
    long long num_copies;
};

struct Measured {
    float peak;  // the largest logit
    float total;  // Σ e^(logit - peak)
    float entropy, varentropy, top_probability;
};

struct Decision {
    int position, word_state;
    int fired;  // a bit per rule
    int shut;   // rules whose tokens must not be sampled here
    int forced_rule, forced_token;
    float past_entropy;  // nats, sampled from the request's past, for a placebo
};

// A request's program and state, where the threads that work on its rows read them quickly.
struct Request {
    int slot, program;
    int state;  // the row of its state in the tables
    int head[HEAD + MAX_RULES * RULE_INTS];
    float numbers[MAX_RULES * RULE_FLOATS];
    int cell[CELL_INTS];
    float chances[CELL_FLOATS];
};

struct Sums {
    double a, b, c;
};

constexpr int NUM_DIGITS = 256;

// A digit, and what those above it weigh.
template <class T> struct Digit {
    int digit;
    T above;
};

constexpr int NUM_MAXIMA = 1024;
constexpr int MAX_CANDIDATES = 512;  // the most tokens that are put in order
constexpr int ORDERED_TOKENS = 256;  // up to so many tokens a truncation looks at one by one

// What the threads that work on one row share.
struct Scratch {
    Measured measured;
    Decision decision;
    int counts[NUM_DIGITS];
    unsigned long long masses[NUM_DIGITS];
    int tokens[MAX_CANDIDATES];
    int order[MAX_CANDIDATES];
    int maxima[NUM_MAXIMA];
    double shares[ORDERED_TOKENS], weighed[ORDERED_TOKENS];
    float mass[MAX_RULES];      // each rule's connectors
    bool has_likeliest[MAX_RULES];  // whether the likeliest token is one of them
    float replaced[MAX_RULES];  // the probability of the tokens that each rule replaces
    float at[MAX_RULES][3];     // entropy, varentropy and top probability at each rule's own temperature
    float *copies[2];           // [vocabulary] each, for what must not be written to the logits
    int borrowed;               // which of the lent copies these are, or NONE
};

struct Line {
    float *values;
    int size;
};

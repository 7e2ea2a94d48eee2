"""The tables that a step reads and writes, by the names of their columns. Plain numbers, which compiled code can use.

A program lies in the heap: a head, its rules, its sets of tokens and its automata. Offsets in a head or a rule count
from the program's first number, so that a program can lie anywhere.
"""

from __future__ import annotations

from forkpoint_policies.compile.program import Signal
from forkpoint_policies.spec import MAX_RULES, MAX_WINDOW

NONE = -1

# --- the head of a program ---
NUM_RULES = 0
IS_SHADOW = 1
REASONING_END = 2  # a token, or NONE
USES = 3  # bits of the parts of the language that the program uses
WORD_FREE = 4  # offset of a bit per token: may a word start after it; NONE when the program names no words
MOVES, NUM_MOVES = 5, 6  # of the word automaton, in buckets: states, tokens, next states
TAILS, NUM_TAILS = 7, 8  # in buckets: zeros, tokens, next states
REGIONS, NUM_REGIONS = 9, 10  # in buckets: states, tokens, next states
FLOATS = 11  # offset of the first number in the heap of floats
HEAD = 12

USES_MARKS, USES_TEXTS, USES_INSTEAD, USES_CHANCES, USES_HISTORY, USES_WINDOW = 1, 2, 4, 8, 16, 32
USES_ENTROPIES, USES_TEMPERATURES, USES_TREE, USES_END_RANK, USES_COPIES = 64, 128, 256, 512, 1024

# --- a rule, after the head ---
ACTION = 0
CONTROL = 1
REGION = 2
FIRST_POSITION = 3
LAST_POSITION = 4
EVERY = 5
AT_MOST = 6
SINCE_BELOW = 7
WINDOW = 8
NEEDS_PREVIOUS = 9
INSTEAD = 10
BOUNDED = 11  # a bit per Signal
HAS_COIN = 12
TEXT, TEXT_LENGTH = 13, 14
TARGET, NUM_TARGET = 15, 16  # tokens, states
MASS, NUM_MASS = 17, 18  # tokens, states
SINCE, NUM_SINCE = 19, 20  # states, tokens, in buckets
PREVIOUS, NUM_PREVIOUS = 21, 22  # states, tokens, in buckets
REPLACED_TOKENS, NUM_REPLACED = 23, 24  # states, tokens, in buckets; of rules that fire by the sampled token
ENTROPY_WINDOW = 25
FIRES_BY_TOKEN = 26
FROM_HERE = 27  # it is decided before it is known whether a text is written here
RULE_INTS = 28

NUM_SIGNALS = len(Signal)
NUM_HIDDEN = NUM_SIGNALS - int(Signal.EFFECTIVE_RANK)
"""The signals of hidden states: the last ones."""
LOW = 0
HIGH = NUM_SIGNALS
PROBABILITY = 2 * NUM_SIGNALS
STRENGTH = PROBABILITY + 4
AT_TEMPERATURE = STRENGTH + 4  # at which the rule bounds entropy, varentropy and the top probability
SPREAD = AT_TEMPERATURE + 1  # nats, of a placebo matched by dose
RULE_FLOATS = SPREAD + 1

# --- a request, by slot ---
PROGRAM = 0  # offset of its program in the heap, NONE for a slot without one
PROGRAM_FLOATS = 1  # offset of its numbers in the heap of floats
HANDLE = 2
ALTERNATIVES = 3
NUM_SHARED = 4
SAMPLED = 5  # offset of the tokens that replace rules' own: per rule an offset and a count, then the tokens; or NONE
FORCED, NUM_FORCED = 6, 7  # offset of the tokens that were sent with the request
ADDRESS = 8  # index of the address that its records are sent to, NONE for none
LIMIT_TOP_K, LIMIT_TOP_P, LIMIT_MIN_P = 9, 10, 11  # of its sampling, the last two by their bits; 0, 1 and 0: none
STATE = 12  # the row of its state in the tables
TEMPERATURE = 13  # by its bits, 0 for requests that take the likeliest token
SEED_LOW, SEED_HIGH = 14, 15
SLOT_INTS = 16

# --- the state of a request at a row: a cell ---
POSITION = 0
WORD_STATE = 1
IN_REGION = 2
TEXT_RULE = 3
TEXT_OFFSET = 4
TEXT_PENDING = 5
ENTROPY_BIN = 6
PENDING = 7  # a bit per rule that fired here
AFTER_PREVIOUS = 8  # a bit per rule
FIRED = 9
CONNECTOR = FIRED + MAX_RULES
CELL_INTS = CONNECTOR + MAX_RULES

HELD = 0
PLACED = MAX_RULES
PENDING_HELD = 2 * MAX_RULES
PENDING_PLACED = 3 * MAX_RULES
CELL_FLOATS = 4 * MAX_RULES

# --- a record, by row; floats by their bits ---
R_HANDLE, R_POSITION, R_LAST_TOKEN, R_FLAGS = 0, 1, 2, 3
R_ENTROPY, R_VARENTROPY, R_TOP_PROBABILITY, R_MASS = 4, 5, 6, 7
R_EFFECT = 8
R_CONFIDENCE = R_EFFECT + MAX_RULES
R_HELD = R_CONFIDENCE + 1
R_PLACED = R_HELD + MAX_RULES
SENT_COLUMNS = R_PLACED + MAX_RULES
"""As worker.records.row_type declares them for MAX_RULES rules, with what a branch needs."""
R_ADDRESS = SENT_COLUMNS
RECORD_COLUMNS = SENT_COLUMNS + 1

MAX_DRAFTS = 64
SUMS = MAX_WINDOW + 1 + MAX_DRAFTS
"""Running sums of confidences that a slot stores: as many as the widest window and the most drafts need."""

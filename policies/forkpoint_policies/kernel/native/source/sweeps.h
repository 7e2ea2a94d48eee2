// Sweeps over a row of logits, by all threads that work on it. Sums depend on the row alone: blocks are added up in
// float32, and the blocks in float64.
//
// Weights are w = e^d with d = (logit - peak) · coldness; those below e^LOWEST count as nothing.
#pragma once

constexpr float LOWEST = -87.0f;  // e^-87 is about the smallest normal float32
constexpr float NOTHING = -INFINITY;
constexpr double MIN_WEIGHT = 0x1p-126;
constexpr int BLOCK = 2048;  // tokens whose terms one thread adds up in float32
constexpr double MASS_UNITS = 0x1p40;  // masses are whole numbers of these, so that their sum has no order

// A number in the order of the logits.
DEVICE int rank_of(float value) {
    const int bits = bits_of(value);
    return bits ^ ((bits >> 31) & 0x7FFFFFFF);
}

constexpr int NOTHING_RANK = -2139095041;  // of -inf

DEVICE unsigned key_of(float value) { return (unsigned)rank_of(value) ^ 0x80000000u; }

DEVICE float weight_of(float depth) {
    const float weight = exponential(larger(depth, LOWEST));  // no depth is above 0: the peak is the largest logit
    return depth >= LOWEST ? weight : 0.0f;
}

// Each group of a thread's tokens: the first of them, and their logits, -inf beyond the last. All of a group are read
// before what is done for any of them, so that several threads wait for the memory as few times as they can.
template <class Work> DEVICE void each_group(Line line, Work work) {
    float group[GROUP];
    for (int begin = thread(); begin < line.size; begin += num_threads() * GROUP) {
        UNROLLED
        for (int number = 0; number < GROUP; ++number) {
            const int token = begin + number * num_threads();
            group[number] = token < line.size ? line.values[token] : NOTHING;
        }
        work(begin, group);
    }
}

// Each of a thread's tokens, with its logit.
template <class Work> DEVICE void each_token(Line line, Work work) {
    each_group(line, [&](int begin, const float *group) {
        UNROLLED
        for (int number = 0; number < GROUP; ++number) {
            const int token = begin + number * num_threads();
            if (token < line.size) work(token, group[number]);
        }
    });
}

// Up to three sums over a row. `term` gets a logit and adds to its three float references; what it returns is written
// back where WRITES says so.
template <bool WRITES, class Term> DEVICE Sums sum_up(Line line, Scratch &scratch, Term term) {
    double whole_a = 0, whole_b = 0, whole_c = 0;
    float *values = line.values;
    if constexpr (num_threads() > 1) {
        each_group(line, [&](int begin, const float *group) {
            float a = 0, b = 0, c = 0;
            UNROLLED
            for (int number = 0; number < GROUP; ++number) {
                const int token = begin + number * num_threads();
                if (token >= line.size) continue;
                const float value = term(group[number], a, b, c);
                if (WRITES) values[token] = value;
            }
            whole_a += a, whole_b += b, whole_c += c;
        });
    } else {
        for (int begin = 0; begin < line.size; begin += BLOCK) {
            const int end = smaller(begin + BLOCK, line.size);
            float a = 0, b = 0, c = 0;
            IN_VECTORS(reduction(+ : a, b, c))
            for (int token = begin; token < end; ++token) {
                const float value = term(values[token], a, b, c);
                if (WRITES) values[token] = value;
            }
            whole_a += a, whole_b += b, whole_c += c;
        }
    }
    return sums_of_threads({whole_a, whole_b, whole_c}, scratch);
}

// As sum_up, two sums over the logits that `counts` accepts. Where few are, this takes less time: `term` is called for
// theirs only, and `write` for all.
template <class Counts, class Term, class Write>
DEVICE Sums sum_up_few(Line line, Scratch &scratch, Counts counts, Term term, Write write) {
    double whole_a = 0, whole_b = 0;
    float *values = line.values;
    if constexpr (num_threads() > 1) {
        each_token(line, [&](int token, float value) {
            float a = 0, b = 0;
            if (counts(value)) term(value, a, b), whole_a += a, whole_b += b;
            values[token] = write(value);
        });
    } else {
        for (int begin = 0; begin < line.size; begin += GROUP) {
            const int end = smaller(begin + GROUP, line.size);
            int any = 0;
            IN_VECTORS(reduction(| : any))
            for (int token = begin; token < end; ++token) any |= counts(values[token]) ? 1 : 0;
            if (any) {
                float a = 0, b = 0;
                IN_VECTORS(reduction(+ : a, b))
                for (int token = begin; token < end; ++token) {
                    float own_a = 0, own_b = 0;
                    term(values[token], own_a, own_b);
                    a += counts(values[token]) ? own_a : 0.0f;
                    b += counts(values[token]) ? own_b : 0.0f;
                }
                whole_a += a, whole_b += b;
            }
            IN_VECTORS()
            for (int token = begin; token < end; ++token) values[token] = write(values[token]);
        }
    }
    return sums_of_threads({whole_a, whole_b, 0.0}, scratch);
}

// Σ w; never 0, so that a row of -inf alone can be divided by it.
DEVICE_CALL double weight(Line line, float peak, float coldness, Scratch &scratch) {
    const Sums sums = sum_up<false>(line, scratch, [=](float value, float &a, float &, float &) {
        a += exponential(larger((value - peak) * coldness, LOWEST));  // e^LOWEST is nothing beside the peak's 1
        return value;
    });
    return larger(sums.a, MIN_WEIGHT);
}

// Σ w, Σ w d and Σ w d²; the first is never 0.
DEVICE_CALL Sums moments(Line line, float peak, float coldness, Scratch &scratch) {
    Sums sums = sum_up<false>(line, scratch, [=](float value, float &a, float &b, float &c) {
        const float depth = larger((value - peak) * coldness, LOWEST);
        const float w = exponential(depth);
        a += w, b += w * depth, c += w * depth * depth;
        return value;
    });
    sums.a = larger(sums.a, MIN_WEIGHT);
    return sums;
}

// Divide the logits; ½ Σ |p' - p| of the distributions before, of coldness `cold` and Σ w `total`, and after.
//
// With p ∝ e^(cold · depth), p' exceeds p on one side of a single depth: the distance is by how much they differ above
// it, where the likeliest tokens are.
DEVICE_CALL double divide(Line line, float divisor, float peak, float cold, double total, double new_total, Scratch &scratch) {
    const float new_cold = cold / divisor, limit = peak + (float)(log(new_total / total) / (new_cold - cold));
    const Sums sums = sum_up_few(
        line, scratch, [=](float value) { return value > limit; },
        [=](float value, float &a, float &b) {
            a = weight_of((value - peak) * cold);
            b = weight_of((value - peak) * new_cold);
        },
        [=](float value) { return value / divisor; });
    return fabs(sums.b / new_total - sums.a / total);
}

// Σ w of what is not below a limit.
DEVICE_CALL double weight_from(Line line, float limit, float peak, float coldness, Scratch &scratch) {
    const Sums sums = sum_up<false>(line, scratch, [=](float value, float &a, float &, float &) {
        const float w = weight_of((value - peak) * coldness);
        a += value >= limit ? w : 0.0f;
        return value;
    });
    return larger(sums.a, MIN_WEIGHT);
}

// Mask what is below a limit; Σ w of what is left.
DEVICE_CALL double keep_from(Line line, float limit, float peak, float coldness, Scratch &scratch) {
    const Sums sums = sum_up_few(
        line, scratch, [=](float value) { return value >= limit; },
        [=](float value, float &a, float &) { a = weight_of((value - peak) * coldness); },
        [=](float value) { return value >= limit ? value : NOTHING; });
    return larger(sums.a, MIN_WEIGHT);
}

// Σ (logit - peak) over the possible logits, those above -inf, and how many they are.
DEVICE_CALL Sums sum_of_possible(Line line, float peak, Scratch &scratch) {
    return sum_up<false>(line, scratch, [=](float value, float &a, float &b, float &) {
        const bool possible = value > NOTHING;
        a += possible ? value - peak : 0.0f;
        b += possible ? 1.0f : 0.0f;
        return value;
    });
}

// Σ (logit - peak - mean)² over the possible logits.
DEVICE_CALL double sum_of_squares(Line line, float peak, float mean, Scratch &scratch) {
    return sum_up<false>(line, scratch, [=](float value, float &a, float &, float &) {
        const float far = value - peak - mean;
        a += value > NOTHING ? far * far : 0.0f;
        return value;
    }).a;
}

// How many logits are above this one.
DEVICE_CALL int num_above(Line line, float least, Scratch &scratch) {
    return (int)sum_up<false>(line, scratch, [=](float value, float &a, float &, float &) {
        a += value > least ? 1.0f : 0.0f;
        return value;
    }).a;
}

DEVICE_CALL float highest(Line line, Scratch &scratch) {
    int found = NOTHING_RANK;
    const float *values = line.values;
    if constexpr (num_threads() > 1) {
        each_token(line, [&](int, float value) { found = larger(found, rank_of(value)); });
    } else {
        IN_VECTORS(reduction(max : found))
        for (int token = 0; token < line.size; ++token) {
            const int rank = rank_of(values[token]);
            found = rank > found ? rank : found;
        }
    }
    found = max_of_threads(found, scratch);
    return float_of(found ^ ((found >> 31) & 0x7FFFFFFF));
}

// The first token with this logit; the vocabulary's size without one.
DEVICE_CALL int find(Line line, float value, Scratch &scratch) {
    int first = line.size;
    if constexpr (num_threads() > 1)
        each_token(line, [&](int token, float own) { first = own == value && token < first ? token : first; });
    else
        for (int token = 0; token < first; ++token)
            if (line.values[token] == value) first = token;
    return -max_of_threads(-first, scratch);
}

// The likeliest token of a row whose largest logit is `peak`: the first one, also of a row of -inf alone.
DEVICE int find_likeliest(Line line, float peak, Scratch &scratch) {
    const int found = find(line, peak, scratch);
    return found < line.size ? found : find(line, NOTHING, scratch);
}

// Mask all other tokens, and let this one have a logit.
DEVICE_CALL void keep_only(Line line, int token, float value) {
    IN_VECTORS()
    for (int other = thread(); other < line.size; other += num_threads())
        line.values[other] = other == token ? value : NOTHING;
}

DEVICE_CALL void copy(Line from, float *into) {
    IN_VECTORS()
    for (int token = thread(); token < from.size; token += num_threads()) into[token] = from.values[token];
}

// Into scratch.maxima, the ranks of the largest of every NUM_MAXIMA-th logit, from each of the first on.
DEVICE_CALL void find_maxima(Line line, Scratch &scratch) {
    if constexpr (num_threads() > 1) {  // each thread for some of them
        for (int first = thread(); first < NUM_MAXIMA; first += num_threads()) {
            float most = NOTHING;
            for (int begin = first; begin < line.size; begin += GROUP * NUM_MAXIMA) {
                float group[GROUP];
                UNROLLED
                for (int number = 0; number < GROUP; ++number) {
                    const int token = begin + number * NUM_MAXIMA;
                    group[number] = token < line.size ? line.values[token] : NOTHING;
                }
                UNROLLED
                for (int number = 0; number < GROUP; ++number) most = larger(group[number], most);
            }
            scratch.maxima[first] = rank_of(most);
        }
    } else {
        for (int &most : scratch.maxima) most = NOTHING_RANK;
        for (int begin = 0; begin < line.size; begin += NUM_MAXIMA) {
            const int count = smaller(NUM_MAXIMA, line.size - begin);
            const float *values = line.values + begin;
            int *maxima = scratch.maxima;
            IN_VECTORS()
            for (int first = 0; first < count; ++first) {
                const int rank = rank_of(values[first]);
                maxima[first] = rank > maxima[first] ? rank : maxima[first];
            }
        }
    }
    wait();
}

// Write to scratch.tokens the possible tokens of at least this rank, in no order, as many as there is room for; how
// many there are.
DEVICE_CALL int collect_from(Line line, int rank, Scratch &scratch) {
    if (is_first()) scratch.counts[0] = 0;
    wait();
    const auto collect = [&](int token, float value) {
        const int own = rank_of(value);
        if (own >= rank && value > NOTHING) {
            const int at = add(&scratch.counts[0], 1);
            if (at < MAX_CANDIDATES) scratch.tokens[at] = token;
        }
    };
    if constexpr (num_threads() > 1)
        each_token(line, collect);
    else
        for (int begin = 0; begin < line.size; begin += GROUP) {
            const int end = smaller(begin + GROUP, line.size);
            int most = NOTHING_RANK;
            IN_VECTORS(reduction(max : most))
            for (int token = begin; token < end; ++token) {
                const int own = rank_of(line.values[token]);
                most = own > most ? own : most;
            }
            if (most < rank) continue;
            for (int token = begin; token < end; ++token) collect(token, line.values[token]);
        }
    wait();
    const int count = scratch.counts[0];
    wait();
    return count;
}

// Count, in scratch.counts, the digits at `shift` of the possible tokens' keys that have this prefix before it.
DEVICE_CALL void count_digits(Line line, int shift, unsigned long long prefix, Scratch &scratch) {
    for (int digit = thread(); digit < NUM_DIGITS; digit += num_threads()) scratch.counts[digit] = 0;
    wait();
    each_token(line, [&](int, float value) {
        const unsigned long long key = key_of(value);
        if (value > NOTHING && key >> (shift + 8) == prefix) tally(&scratch.counts[key >> shift & 255], 1);
    });
    wait();
}

// As count_digits, the tokens' weights in scratch.masses.
DEVICE_CALL void weigh_digits(Line line, int shift, unsigned long long prefix, float peak, float coldness, Scratch &scratch) {
    for (int digit = thread(); digit < NUM_DIGITS; digit += num_threads()) scratch.masses[digit] = 0;
    wait();
    each_token(line, [&](int, float value) {
        const float depth = (value - peak) * coldness;
        const unsigned long long key = key_of(value);
        if (depth >= LOWEST && key >> (shift + 8) == prefix)
            tally(&scratch.masses[key >> shift & 255], (unsigned long long)(exponential(depth) * MASS_UNITS));
    });
    wait();
}

// Write to scratch.tokens those above a key, and those below the token `before` that have it; how many. In no order.
DEVICE_CALL int collect_above(Line line, unsigned key, int before, Scratch &scratch) {
    if (is_first()) scratch.counts[0] = 0;
    wait();
    each_token(line, [&](int token, float value) {
        const unsigned own = key_of(value);
        if (value > NOTHING && (own > key || (own == key && token < before)))
            scratch.tokens[add(&scratch.counts[0], 1)] = token;
    });
    wait();
    const int count = scratch.counts[0];
    wait();
    return count;
}

// How many of the tokens below `before` have this key.
DEVICE_CALL int num_with_key(Line line, unsigned key, int before, Scratch &scratch) {
    int count = 0;
    each_token({line.values, before}, [&](int, float value) { count += key_of(value) == key; });
    return sum_of_threads(count, scratch);
}

// Numbers that a row computes: chance from a request's seed, and curves over positions or entropies.
#pragma once

constexpr float MIN_TEMPERATURE = 0.01f;
constexpr float MIN_NATS = 1e-6f;

template <class T> DEVICE T smaller(T a, T b) { return a < b ? a : b; }
template <class T> DEVICE T larger(T a, T b) { return a > b ? a : b; }

// A number in [0, 1) with 24 bits that depends on nothing but these: the finaliser of SplitMix64.
DEVICE float uniform(unsigned long long seed, int position, int salt) {
    unsigned long long mixed = seed + (unsigned long long)(long long)position * 0x9E3779B97F4A7C15ull +
                               (unsigned long long)(long long)(salt + 1) * 0x5851F42D4C957F2Dull;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9ull;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBull;
    mixed = mixed ^ (mixed >> 31);
    return (float)(mixed >> 40) * 0x1p-24f;
}

// A program.Curve at a position and an entropy in nats.
DEVICE float evaluate(const float *curve, int position, float entropy) {
    const int shape = (int)curve[0];
    const float a = curve[1], b = curve[2], c = curve[3], here = (float)position;
    if (shape == SHAPE_LINEAR) return a + (b - a) * smaller(here / c, 1.0f);
    if (shape == SHAPE_TRIANGULAR) {
        const float phase = b > 0.0f ? here / b : 0.0f;
        const float moved = phase - floorf(phase) + 0.25f;
        return a * (1.0f - 4.0f * fabsf(moved - floorf(moved) - 0.5f));
    }
    if (shape == SHAPE_ENTROPY) return larger(a * powf(b, c / larger(entropy, MIN_NATS)), MIN_TEMPERATURE);
    if (shape == SHAPE_POWER) return a + b * powf(larger(entropy, 0.0f), c);
    return a;
}

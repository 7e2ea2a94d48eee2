// Numbers that a row computes: exponentials, chance from a request's seed, and curves over positions or entropies.
#pragma once

constexpr float MIN_TEMPERATURE = 0.01f;
constexpr float MIN_NATS = 1e-6f;

#if defined(__CUDACC_RTC__)
DEVICE int bits_of(float value) { return __float_as_int(value); }

DEVICE float float_of(int bits) { return __int_as_float(bits); }

// e^x for x from LOWEST to 88, by the device's own 2^x. Correct to 2e-7 of the value near 0, to 3e-6 at -87.
DEVICE float exponential(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * 1.4426950408889634f));
    return power;
}

DEVICE float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
#else
DEVICE int bits_of(float value) {
    int bits;
    __builtin_memcpy(&bits, &value, 4);
    return bits;
}

DEVICE float float_of(int bits) {
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}

DEVICE float multiply_add(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

// e^x for x from LOWEST to 88, by arithmetic that compilers turn into vectors. e^x = 2^k e^r with k = round(x / ln
// 2); ln 2 is in two parts, so that r is exact; e^r = 1 + r + r² P(r), with Cephes' coefficients of P
// (https://www.netlib.org/cephes/). Correct to 1e-7 of the value.
DEVICE float exponential(float x) {
    constexpr float ROUNDER = 1.5f * (1 << 23);  // added to a small float, it leaves the nearest integer in the low bits
    const float shifted = multiply_add(x, 1.4426950408889634f, ROUNDER);
    const float twos = shifted - ROUNDER;
    const float r = multiply_add(twos, 2.12194440e-4f, multiply_add(twos, -0.693359375f, x));
    float p = 1.9875691500e-4f;
    p = multiply_add(p, r, 1.3981999507e-3f);
    p = multiply_add(p, r, 8.3334519073e-3f);
    p = multiply_add(p, r, 4.1665795894e-2f);
    p = multiply_add(p, r, 1.6666665459e-1f);
    p = multiply_add(p, r, 5.0000001201e-1f);
    const int k = bits_of(shifted) - bits_of(ROUNDER);
    return (multiply_add(p * r, r, r) + 1.0f) * float_of((k + 127) << 23);
}
#endif

// The second of them where one is no number: a maximum so far stays one.
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
DEVICE_CALL float evaluate(const float *curve, int position, float entropy) {
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

// The signals of a row: kernel.signals says what they are.
#pragma once

// Sums relative to one reference, relative to another one `shift` above it.
DEVICE Sums moved(Sums sums, double shift) {
    const double scale = exp(shift);
    return {scale * sums.a, scale * (sums.b + shift * sums.a), scale * (sums.c + shift * (2 * sums.b + shift * sums.a))};
}

// What moments say that are relative to a row's peak, its largest logit.
DEVICE Measured signals_of(float peak, Sums sums) {
    const double mean = sums.b / sums.a;
    return {
        peak,
        (float)sums.a,
        (float)larger(log(sums.a) - mean, 0.0),
        (float)larger(sums.c / sums.a - mean * mean, 0.0),
        (float)(1.0 / sums.a),
    };
}

constexpr Measured CERTAIN_ROW = {0.0f, 1.0f, 0.0f, 0.0f, 1.0f};  // also one of -inf alone

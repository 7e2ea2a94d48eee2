// Temperature: divide the logits.
#pragma once

// The effect.
DEVICE_CALL double apply_temperature(Line line, const Acting &acting, Scratch &scratch) {
    const float factor = larger(acting.strength, MIN_TEMPERATURE);
    const double new_total = weight(line, acting.peak, acting.coldness / factor, scratch);
    const double effect = divide(line, factor, acting.peak, acting.coldness, acting.total, new_total, scratch);
    wait();
    return effect;
}

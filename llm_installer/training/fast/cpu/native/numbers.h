/* bfloat16 in memory, float in registers, and an exponential that compilers turn into vector code. */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

static inline float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t to_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float wide(bf16 x) { return of_bits((uint32_t)x << 16); }

/* To the nearest, ties to even; NaN stays NaN. */
static inline bf16 narrow(float x) {
    uint32_t bits = to_bits(x);
    uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16 | 0x40) : nearest;
}

static inline float smaller(float a, float b) { return b < a ? b : a; }
static inline float larger(float a, float b) { return b > a ? b : a; }

/* e^x within 2e-7 of itself: 2^n times the series of e^r, |r| <= ln(2)/2. Beyond +-87 it stays where it is. */
static inline float exponential(float x) {
    x = smaller(larger(x, -87.0f), 87.0f);
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693147181f;
    float series = 1.0f / 720;
    series = series * r + 1.0f / 120;
    series = series * r + 1.0f / 24;
    series = series * r + 1.0f / 6;
    series = series * r + 0.5f;
    series = series * r + 1.0f;
    series = series * r + 1.0f;
    return series * of_bits((uint32_t)((int32_t)n + 127) << 23);
}

/* The largest of many, sixteen at a time: in order, as written, no compiler may use vectors for it. */
#define HIGHEST(name, type, as_float)                                                                 \
    static inline float name(const type *x, long count) {                                             \
        float top[16], highest = -INFINITY;                                                           \
        for (int j = 0; j < 16; j++) top[j] = -INFINITY;                                              \
        long i = 0;                                                                                   \
        for (; i + 16 <= count; i += 16)                                                              \
            for (int j = 0; j < 16; j++) top[j] = larger(top[j], as_float(x[i + j]));                 \
        for (; i < count; i++) top[i % 16] = larger(top[i % 16], as_float(x[i]));                     \
        for (int j = 0; j < 16; j++) highest = larger(highest, top[j]);                               \
        return highest;                                                                               \
    }

static inline float itself(float x) { return x; }
HIGHEST(highest, float, itself)
HIGHEST(highest_wide, bf16, wide)

static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

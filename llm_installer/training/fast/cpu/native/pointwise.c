/* Norms, gates, rotary embeddings and the loss of logits in bfloat16: each one pass over memory, in float between.
 *
 * Rows lie one after the other. Nothing is allocated; each function may be called from several threads at once.
 */
#include "numbers.h"

enum activation { SILU, GELU_TANH };

/* out = x / sqrt(mean(x^2) + epsilon) * (weight + offset), where with `early` the quotient is rounded before the product.
 * `spread` gets 1 / sqrt(...) of each row. */
void norm_forward(const bf16 *x, const bf16 *weight, bf16 *out, float *spread, long rows, long width, float epsilon,
                  float offset, int early) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        const bf16 *in = x + row * width;
        bf16 *to = out + row * width;
        float squares = 0;
        for (long i = 0; i < width; i++) squares += wide(in[i]) * wide(in[i]);
        float root = 1.0f / sqrtf(squares / (float)width + epsilon);
        spread[row] = root;
        if (early)
            for (long i = 0; i < width; i++) to[i] = narrow(wide(narrow(wide(in[i]) * root)) * (wide(weight[i]) + offset));
        else
            for (long i = 0; i < width; i++) to[i] = narrow(wide(in[i]) * root * (wide(weight[i]) + offset));
    }
}

/* The gradient by x: root * (s - x * root^2 * mean(s * x)) with s = outer * (weight + offset). */
void norm_backward(const bf16 *outer, const bf16 *x, const bf16 *weight, const float *spread, bf16 *gradient, long rows,
                   long width, float offset) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        const bf16 *in = x + row * width, *from = outer + row * width;
        bf16 *to = gradient + row * width;
        float root = spread[row], product = 0;
        for (long i = 0; i < width; i++) product += wide(from[i]) * (wide(weight[i]) + offset) * wide(in[i]);
        float shared = product / (float)width * root * root;
        for (long i = 0; i < width; i++)
            to[i] = narrow((wide(from[i]) * (wide(weight[i]) + offset) - wide(in[i]) * shared) * root);
    }
}

/* GELU by tanh is x * sigmoid(2u), u = sqrt(2/pi) * (x + 0.044715 x^3). */
static inline float inside(float x) { return 1.59576912f * (x + 0.044715f * x * x * x); }
static inline float inside_derivative(float x) { return 1.59576912f * (1.0f + 3 * 0.044715f * x * x); }

/* out = activation(gate) * up */
void gate_forward(const bf16 *gate, const bf16 *up, bf16 *out, long count, int activation) {
    if (activation == SILU) {
#pragma omp parallel for schedule(static)
        for (long i = 0; i < count; i++) {
            float g = wide(gate[i]);
            out[i] = narrow(g * sigmoid(g) * wide(up[i]));
        }
    } else {
#pragma omp parallel for schedule(static)
        for (long i = 0; i < count; i++) {
            float g = wide(gate[i]);
            out[i] = narrow(g * sigmoid(inside(g)) * wide(up[i]));
        }
    }
}

/* Gate and up become the gradients by them. */
void gate_backward(const bf16 *outer, bf16 *gate, bf16 *up, long count, int activation) {
    if (activation == SILU) {
#pragma omp parallel for schedule(static)
        for (long i = 0; i < count; i++) {
            float g = wide(gate[i]), u = wide(up[i]), o = wide(outer[i]), s = sigmoid(g);
            up[i] = narrow(o * g * s);
            gate[i] = narrow(o * u * s * (1.0f + g * (1.0f - s)));
        }
    } else {
#pragma omp parallel for schedule(static)
        for (long i = 0; i < count; i++) {
            float g = wide(gate[i]), u = wide(up[i]), o = wide(outer[i]), s = sigmoid(inside(g));
            up[i] = narrow(o * g * s);
            gate[i] = narrow(o * u * s * (1.0f + g * (1.0f - s) * inside_derivative(g)));
        }
    }
}

/* Queries or keys [rows, length, heads, width] turned by their positions, whose cosines and sines are [rows or 1,
 * length, width]; the first half of a head turns with the second. With `back` the gradient is turned back. */
void rotary(const bf16 *x, const bf16 *cosine, const bf16 *sine, bf16 *out, long rows, long length, long heads,
            long width, long angle_rows, int back) {
    long half = width / 2;
    float sign = back ? -1.0f : 1.0f;
#pragma omp parallel for schedule(static)
    for (long token = 0; token < rows * length; token++) {
        long place = (angle_rows == 1 ? token % length : token) * width;
        /* Turned back, each half of the gradient meets the sine of the other. */
        const bf16 *restrict c = cosine + place, *restrict d = c + half;
        const bf16 *restrict s = sine + place + (back ? half : 0), *restrict t = sine + place + (back ? 0 : half);
        for (long head = 0; head < heads; head++) {
            const bf16 *restrict a = x + (token * heads + head) * width, *restrict b = a + half;
            bf16 *restrict to_a = out + (token * heads + head) * width, *restrict to_b = to_a + half;
            for (long i = 0; i < half; i++) to_a[i] = narrow(wide(a[i]) * wide(c[i]) - sign * wide(b[i]) * wide(s[i]));
            for (long i = 0; i < half; i++) to_b[i] = narrow(wide(b[i]) * wide(d[i]) + sign * wide(a[i]) * wide(t[i]));
        }
    }
}

/* The same where a layer is planned ahead: `gate` and `up` are the halves of rows, and the result lies by itself. */
void gate_rows(const bf16 *both, bf16 *out, long rows, long width, int activation) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        const bf16 *restrict gate = both + row * 2 * width, *restrict up = gate + width;
        bf16 *restrict to = out + row * width;
        if (activation == SILU)
            for (long i = 0; i < width; i++) to[i] = narrow(wide(gate[i]) * sigmoid(wide(gate[i])) * wide(up[i]));
        else
            for (long i = 0; i < width; i++)
                to[i] = narrow(wide(gate[i]) * sigmoid(inside(wide(gate[i]))) * wide(up[i]));
    }
}

/* Both halves become the gradients by them. */
void gate_rows_back(const bf16 *outer, bf16 *both, long rows, long width, int activation) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        bf16 *restrict gate = both + row * 2 * width, *restrict up = gate + width;
        const bf16 *restrict from = outer + row * width;
        if (activation == SILU)
            for (long i = 0; i < width; i++) {
                float g = wide(gate[i]), u = wide(up[i]), o = wide(from[i]), s = sigmoid(g);
                up[i] = narrow(o * g * s);
                gate[i] = narrow(o * u * s * (1.0f + g * (1.0f - s)));
            }
        else
            for (long i = 0; i < width; i++) {
                float g = wide(gate[i]), u = wide(up[i]), o = wide(from[i]), s = sigmoid(inside(g));
                up[i] = narrow(o * g * s);
                gate[i] = narrow(o * u * s * (1.0f + g * (1.0f - s) * inside_derivative(g)));
            }
    }
}

/* Heads of `width` numbers turned by the position of their token, from x to out, which may be the same place. Between
 * tokens lie x_token and out_token numbers, between heads x_head and `width`. With `back` a gradient is turned back. */
void turn(const bf16 *x, bf16 *out, const bf16 *cosine, const bf16 *sine, long rows, long length, long heads, long width,
          long x_token, long x_head, long out_token, long angle_rows, int back) {
    long half = width / 2;
    float sign = back ? -1.0f : 1.0f;
#pragma omp parallel for schedule(static)
    for (long token = 0; token < rows * length; token++) {
        long place = (angle_rows == 1 ? token % length : token) * width;
        const bf16 *c = cosine + place, *d = c + half;
        const bf16 *s = sine + place + (back ? half : 0), *t = sine + place + (back ? 0 : half);
        for (long head = 0; head < heads; head++) {
            const bf16 *a = x + token * x_token + head * x_head, *b = a + half;
            bf16 *to_a = out + token * out_token + head * width, *to_b = to_a + half;
#pragma GCC ivdep
            for (long i = 0; i < half; i++) {
                float first = wide(a[i]), second = wide(b[i]);
                to_a[i] = narrow(first * wide(c[i]) - sign * second * wide(s[i]));
                to_b[i] = narrow(second * wide(d[i]) + sign * first * wide(t[i]));
            }
        }
    }
}

/* norm_backward, and `more` added to it. */
void norm_backward_onto(const bf16 *outer, const bf16 *x, const bf16 *weight, const float *spread, const bf16 *more,
                        bf16 *gradient, long rows, long width, float offset) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        const bf16 *in = x + row * width, *from = outer + row * width, *plus = more + row * width;
        bf16 *to = gradient + row * width;
        float root = spread[row], product = 0;
        for (long i = 0; i < width; i++) product += wide(from[i]) * (wide(weight[i]) + offset) * wide(in[i]);
        float shared = product / (float)width * root * root;
        for (long i = 0; i < width; i++)
            to[i] = narrow((wide(from[i]) * (wide(weight[i]) + offset) - wide(in[i]) * shared) * root + wide(plus[i]));
    }
}

/* losses[row] = log(sum(exp(scale * logits))) - scale * logits[target]; where it is wanted the logits become the
 * gradient of that. */
void loss(bf16 *logits, const int64_t *targets, float *losses, long rows, long words, float scale, int wanted) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < rows; row++) {
        bf16 *line = logits + row * words;
        float top = scale * highest_wide(line, words), mass = 0;
        for (long i = 0; i < words; i++) mass += exponential(scale * wide(line[i]) - top);
        float aim = scale * wide(line[targets[row]]), share = 1.0f / mass;
        losses[row] = logf(mass) + top - aim;
        if (!wanted) continue;
        for (long i = 0; i < words; i++) line[i] = narrow(scale * share * exponential(scale * wide(line[i]) - top));
        line[targets[row]] = narrow(scale * (share * exponential(aim - top) - 1.0f));
    }
}

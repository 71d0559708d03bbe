/* Causal attention over documents that lie one after the other, forward and backward, in bfloat16.
 *
 * Scores, their exponentials and all sums are float; factors of products are bfloat16. What is computed once more in the
 * backward pass is what flash attention computes once more (Dao, 2023): the weights, from the logarithm of their sum.
 *
 * A product is m x k times k x n. Its right factor is packed in panels of COLUMNS columns, in which the two values of
 * neighbouring k lie side by side in 32 bits, as the processor's dot products of bfloat16 take them.
 */
#include <stdlib.h>

#include "numbers.h"

/* Without such dot products PyTorch's operations are faster, so there is nothing in this file. */
#ifdef __AVX512BF16__
#include <immintrin.h>

typedef uint32_t pair __attribute__((may_alias, aligned(2)));
typedef float floats __attribute__((vector_size(64)));

enum { LANES = 16, COLUMNS = 64, ROWS = 6, QUERIES = 48, CHUNK = 256, KEYS = 96 };

static inline long up_to(long count, long step) { return (count + step - 1) / step * step; }
static inline long least(long a, long b) { return a < b ? a : b; }

/* sum[i] += a.low * b[i].low + a.high * b[i].high */
static inline floats dot(floats sum, uint32_t a, const pair *b) {
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)a),
                                    (__m512bh)_mm512_loadu_si512(b));
}

static inline __attribute__((always_inline)) void tile(const int rows, long pairs, const pair *a, long a_row,
                                                       long a_pair, const pair *b, float *c, long c_row, int more) {
    floats sum[ROWS][COLUMNS / LANES];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int j = 0; j < COLUMNS / LANES; j++)
            if (more)
                memcpy(&sum[i][j], c + i * c_row + j * LANES, sizeof(floats));
            else
                sum[i][j] = (floats){0};
    for (long p = 0; p < pairs; p++, b += COLUMNS)
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            uint32_t factor = a[i * a_row + p * a_pair];
#pragma GCC unroll 8
            for (int j = 0; j < COLUMNS / LANES; j++) sum[i][j] = dot(sum[i][j], factor, b + j * LANES);
        }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int j = 0; j < COLUMNS / LANES; j++) memcpy(c + i * c_row + j * LANES, &sum[i][j], sizeof(floats));
}

/* c [m, panels * COLUMNS] = a [m, 2 * pairs] times b, or that added to it. Strides of a are in pairs. */
static void product(long m, long panels, long pairs, const pair *a, long a_row, long a_pair, const pair *b,
                    long b_panel, float *c, long c_row, int more) {
    for (long n = 0; n < panels; n++)
        for (long i = 0; i < m; i += ROWS) {
            const pair *left = a + i * a_row, *right = b + n * b_panel;
            float *to = c + i * c_row + n * COLUMNS;
            switch (least(ROWS, m - i)) {
                case 6: tile(6, pairs, left, a_row, a_pair, right, to, c_row, more); break;
                case 5: tile(5, pairs, left, a_row, a_pair, right, to, c_row, more); break;
                case 4: tile(4, pairs, left, a_row, a_pair, right, to, c_row, more); break;
                case 3: tile(3, pairs, left, a_row, a_pair, right, to, c_row, more); break;
                case 2: tile(2, pairs, left, a_row, a_pair, right, to, c_row, more); break;
                default: tile(1, pairs, left, a_row, a_pair, right, to, c_row, more);
            }
        }
}

/* Rows [count, width] as a right factor that is summed over the width: a column for each row, up to full panels. */
static void pack_columns(pair *to, const bf16 *from, long stride, long count, long width) {
    for (long t = 0; t < up_to(count, COLUMNS); t++) {
        pair *column = to + t / COLUMNS * (width / 2) * COLUMNS + t % COLUMNS;
        const pair *row = (const pair *)(from + t * stride);
        for (long d = 0; d < width / 2; d++) column[d * COLUMNS] = t < count ? row[d] : 0;
    }
}

/* Rows [count, width] as a right factor that is summed over the rows, of which there is room for `room`. */
static void pack_rows(pair *to, const bf16 *from, long stride, long count, long width, long room) {
    static const bf16 none[COLUMNS];
    for (long start = 0; start < width; start += COLUMNS)
        for (long t = 0; t < up_to(count, COLUMNS); t += 2) {
            pair *out = to + (start / COLUMNS * room / 2 + t / 2) * COLUMNS;
            const bf16 *low = t < count ? from + t * stride + start : none;
            const bf16 *high = t + 1 < count ? from + (t + 1) * stride + start : none;
            long n = least(COLUMNS, width - start);
            for (long d = 0; d < n; d++) out[d] = (uint32_t)low[d] | (uint32_t)high[d] << 16;
            for (long d = n; d < COLUMNS; d++) out[d] = 0;
        }
}

/* Weights of one query before they are divided by their sum; returns the sum. Above `count`, up to `room`, are zeros. */
static float weights(const float *scores, bf16 *to, long count, long room, float scale, float *top) {
    float most = highest(scores, count), sum = 0;
    for (long i = 0; i < count; i++) {
        float weight = exponential(scale * (scores[i] - most));
        sum += weight;
        to[i] = narrow(weight);
    }
    memset(to + count, 0, (size_t)(room - count) * sizeof(bf16));
    *top = most;
    return sum;
}

/* Where queries, keys and values lie, in elements: tokens and heads apart. */
struct layout {
    long q_token, q_head, k_token, k_head, v_token, v_head;
};

static void *room(long bytes) { return aligned_alloc(64, (size_t)up_to(bytes, 64)); }

static int forward_of(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *out, float *mass, long length, long tokens,
                      long heads, long first, long last, long width, const struct layout *at, float scale) {
    long full = up_to(length, COLUMNS), across = up_to(width, COLUMNS);
    pair *keys = room(full * width * 2), *values = room(full * across * 2);
    float *scores = room(QUERIES * full * 4), *sums = room(QUERIES * across * 4);
    bf16 *shares = room(QUERIES * full * 2);
    int done = keys && values && scores && sums && shares;
    if (done) {
        pack_columns(keys, k, at->k_token, length, width);
        pack_rows(values, v, at->v_token, length, width, full);
    }
    for (long head = first; done && head < last; head++)
        for (long start = 0; start < length; start += QUERIES) {
            long count = least(QUERIES, length - start), end = start + count;
            const pair *asked = (const pair *)(q + start * at->q_token + head * at->q_head);
            product(count, up_to(end, COLUMNS) / COLUMNS, width / 2, asked, at->q_token / 2, 1, keys,
                    width / 2 * COLUMNS, scores, full, 0);
            float total[QUERIES];
            for (long i = 0; i < count; i++) {
                float top;
                total[i] = weights(scores + i * full, shares + i * full, start + i + 1, up_to(end, 2), scale, &top);
                mass[head * tokens + start + i] = scale * top + logf(total[i]);
            }
            product(count, across / COLUMNS, up_to(end, 2) / 2, (const pair *)shares, full / 2, 1, values,
                    full / 2 * COLUMNS, sums, across, 0);
            for (long i = 0; i < count; i++) {
                bf16 *to = out + ((start + i) * heads + head) * width;
                float part = 1.0f / total[i];
                for (long d = 0; d < width; d++) to[d] = narrow(sums[i * across + d] * part);
            }
        }
    free(keys), free(values), free(scores), free(sums), free(shares);
    return done;
}

/* out [tokens, heads, width] is the attention of q over k and v, each query over the keys of its document up to its own;
 * mass [heads, tokens] the logarithm of the sum of its weights. Documents lie between neighbouring bounds. `groups` of
 * heads share a key. Returns 0 where memory is short. */
int attention_forward(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *out, float *mass, const int32_t *bounds,
                      long documents, long heads, long groups, long width, const struct layout *at, float scale) {
    long tokens = bounds[documents], each = heads / groups;
    int done = 1;
#pragma omp parallel for schedule(dynamic) reduction(& : done)
    for (long unit = 0; unit < documents * groups; unit++) {
        long start = bounds[unit / groups], length = bounds[unit / groups + 1] - start, group = unit % groups;
        done &= forward_of(q + start * at->q_token, k + start * at->k_token + group * at->k_head,
                           v + start * at->v_token + group * at->v_head, out + start * heads * width, mass + start,
                           length, tokens, heads, group * each, (group + 1) * each, width, at, scale);
    }
    return done;
}

/* Weights and the gradients of scores for one key and the queries from..to of a chunk; zeros where the key comes later. */
static void gradients(const float *scores, const float *given, const float *mass, const float *shared, bf16 *share,
                   bf16 *gradient, long from, long seen, long to, float scale) {
    for (long j = from; j < least(seen, to); j++) share[j] = gradient[j] = 0;
    for (long j = seen; j < to; j++) {
        float weight = exponential(scale * scores[j] - mass[j]);
        share[j] = narrow(weight);
        gradient[j] = narrow(weight * (given[j] - shared[j]));
    }
}

struct factors {
    pair *asked_columns, *asked_rows, *outer_columns, *outer_rows, *key_rows, *turned;
    float *scores, *given, *for_queries, *for_keys, *for_values, *mass, *shared;
    bf16 *share, *gradient;
};

/* What the queries of a chunk, which begins at query `start`, give to the keys of a block and get from them. */
static void chunk_by_keys(struct factors *f, const bf16 *k, const bf16 *v, long start, long queries, long first,
                          long keys, long width, long room_keys, const struct layout *at, float scale) {
    long across = up_to(width, COLUMNS), from = first > start ? (first - start) / COLUMNS * COLUMNS : 0;
    long to = up_to(queries, COLUMNS), panels = (to - from) / COLUMNS, skipped = from / COLUMNS * (width / 2) * COLUMNS;
    product(keys, panels, width / 2, (const pair *)(k + first * at->k_token), at->k_token / 2, 1,
            f->asked_columns + skipped, width / 2 * COLUMNS, f->scores + from, CHUNK, 0);
    product(keys, panels, width / 2, (const pair *)(v + first * at->v_token), at->v_token / 2, 1,
            f->outer_columns + skipped, width / 2 * COLUMNS, f->given + from, CHUNK, 0);
    for (long i = 0; i < keys; i++) {
        long seen = first + i - start, row = i * CHUNK;
        gradients(f->scores + row, f->given + row, f->mass, f->shared, f->share + row, f->gradient + row, from,
               seen > from ? seen : from, to, scale);
    }
    if (keys % 2) memset(f->gradient + keys * CHUNK, 0, CHUNK * sizeof(bf16));
    for (long i = 0; i < keys; i += 2)
        for (long j = from; j < to; j++)
            f->turned[i / 2 * CHUNK + j] =
                (uint32_t)f->gradient[i * CHUNK + j] | (uint32_t)f->gradient[(i + 1) * CHUNK + j] << 16;
    product(keys, across / COLUMNS, (to - from) / 2, (const pair *)(f->share + from), CHUNK / 2, 1,
            f->outer_rows + from / 2 * COLUMNS, CHUNK / 2 * COLUMNS, f->for_values + first * across, across, 1);
    product(keys, across / COLUMNS, (to - from) / 2, (const pair *)(f->gradient + from), CHUNK / 2, 1,
            f->asked_rows + from / 2 * COLUMNS, CHUNK / 2 * COLUMNS, f->for_keys + first * across, across, 1);
    product(queries - from, across / COLUMNS, up_to(keys, 2) / 2, f->turned + from, 1, CHUNK,
            f->key_rows + first / 2 * COLUMNS, room_keys / 2 * COLUMNS, f->for_queries + from * across, across, 1);
}

static void write_rows(const float *from, long from_row, bf16 *to, long to_row, long count, long width, float scale) {
    for (long t = 0; t < count; t++)
        for (long d = 0; d < width; d++) to[t * to_row + d] = narrow(from[t * from_row + d] * scale);
}

static int backward_of(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *out, const bf16 *outer,
                       const float *mass, bf16 *dq, bf16 *dk, bf16 *dv, long length, long tokens, long heads,
                       long groups, long first, long last, long width, const struct layout *at, float scale) {
    long full = up_to(length, COLUMNS), across = up_to(width, COLUMNS), apart = heads * width;
    long part[] = {CHUNK * width * 2, CHUNK * across * 2, CHUNK * width * 2, CHUNK * across * 2, full * across * 2,
                   KEYS * CHUNK * 2,  KEYS * CHUNK * 4,   KEYS * CHUNK * 4,  CHUNK * across * 4, full * across * 4,
                   full * across * 4, CHUNK * 4,          CHUNK * 4,         (KEYS + 1) * CHUNK * 2, (KEYS + 1) * CHUNK * 2};
    enum { PARTS = sizeof part / sizeof *part };
    long offset[PARTS + 1] = {0};
    for (int i = 0; i < PARTS; i++) offset[i + 1] = offset[i] + up_to(part[i], 64);
    char *all = room(offset[PARTS]);
    if (!all) return 0;
    struct factors f = {
        (pair *)(all + offset[0]),   (pair *)(all + offset[1]),   (pair *)(all + offset[2]),
        (pair *)(all + offset[3]),   (pair *)(all + offset[4]),   (pair *)(all + offset[5]),
        (float *)(all + offset[6]),  (float *)(all + offset[7]),  (float *)(all + offset[8]),
        (float *)(all + offset[9]),  (float *)(all + offset[10]), (float *)(all + offset[11]),
        (float *)(all + offset[12]), (bf16 *)(all + offset[13]),  (bf16 *)(all + offset[14]),
    };
    memset(f.for_keys, 0, (size_t)(full * across * 4));
    memset(f.for_values, 0, (size_t)(full * across * 4));
    pack_rows(f.key_rows, k, at->k_token, length, width, full);
    for (long head = first; head < last; head++)
        for (long start = 0; start < length; start += CHUNK) {
            long queries = least(CHUNK, length - start);
            const bf16 *asked = q + start * at->q_token + head * at->q_head;
            const bf16 *above = outer + start * apart + head * width, *own = out + start * apart + head * width;
            pack_columns(f.asked_columns, asked, at->q_token, queries, width);
            pack_columns(f.outer_columns, above, apart, queries, width);
            pack_rows(f.asked_rows, asked, at->q_token, queries, width, CHUNK);
            pack_rows(f.outer_rows, above, apart, queries, width, CHUNK);
            memset(f.for_queries, 0, (size_t)(CHUNK * across * 4));
            for (long j = 0; j < CHUNK; j++) {
                float sum = 0;
                for (long d = 0; j < queries && d < width; d++) sum += wide(above[j * apart + d]) * wide(own[j * apart + d]);
                f.shared[j] = sum;
                f.mass[j] = j < queries ? mass[head * tokens + start + j] : 0;
            }
            for (long at_key = 0; at_key < start + queries; at_key += KEYS)
                chunk_by_keys(&f, k, v, start, queries, at_key, least(KEYS, start + queries - at_key), width, full, at,
                              scale);
            write_rows(f.for_queries, across, dq + start * apart + head * width, apart, queries, width, scale);
        }
    write_rows(f.for_keys, across, dk, groups * width, length, width, scale);
    write_rows(f.for_values, across, dv, groups * width, length, width, 1.0f);
    free(all);
    return 1;
}

/* The gradients by q [tokens, heads, width], and by k and v [tokens, groups, width], of what `outer` [tokens, heads,
 * width] is the gradient by `out`. Returns 0 where memory is short. */
int attention_backward(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *out, const bf16 *outer,
                       const float *mass, bf16 *dq, bf16 *dk, bf16 *dv, const int32_t *bounds, long documents,
                       long heads, long groups, long width, const struct layout *at, float scale) {
    long tokens = bounds[documents], each = heads / groups;
    int done = 1;
#pragma omp parallel for schedule(dynamic) reduction(& : done)
    for (long unit = 0; unit < documents * groups; unit++) {
        long start = bounds[unit / groups], length = bounds[unit / groups + 1] - start, group = unit % groups;
        long own = start * heads * width, shared = (start * groups + group) * width;
        done &= backward_of(q + start * at->q_token, k + start * at->k_token + group * at->k_head,
                            v + start * at->v_token + group * at->v_head, out + own, outer + own, mass + start, dq + own,
                            dk + shared, dv + shared, length, tokens, heads, groups, group * each, (group + 1) * each,
                            width, at, scale);
    }
    return done;
}
#endif

/* Mutation of whole steps: drop, repeat, exchange, insert, or change the payload of one; crossover takes steps of two inputs. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#define MOST_RECORDS 256u
#define LARGEST_PAYLOAD 600u

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size, uint8_t *out, size_t max_size,
                                 unsigned seed);

typedef struct {
    const uint8_t *at;
    size_t size; /* with its header */
} record;

static size_t split(const uint8_t *data, size_t size, record *records) {
    size_t n = 0;
    while (size >= RECORD_HEADER && n < MOST_RECORDS) {
        size_t length = RECORD_HEADER + (data[1] | (size_t)data[2] << 8);
        if (length > size) length = size;
        records[n++] = (record){data, length};
        data += length;
        size -= length;
    }
    return n;
}

static size_t put(uint8_t *out, size_t used, size_t max_size, record r) {
    if (used + r.size > max_size || r.size < RECORD_HEADER) return used;
    memcpy(out + used, r.at, r.size);
    size_t payload = r.size - RECORD_HEADER;
    out[used + 1] = (uint8_t)payload; /* the length of a record that was cut short */
    out[used + 2] = (uint8_t)(payload >> 8);
    return used + r.size;
}

static record changed(record r, uint8_t *scratch) {
    size_t payload = r.size - RECORD_HEADER;
    if (payload > LARGEST_PAYLOAD) payload = LARGEST_PAYLOAD;
    memcpy(scratch, r.at, RECORD_HEADER + payload);
    payload = LLVMFuzzerMutate(scratch + RECORD_HEADER, payload, LARGEST_PAYLOAD);
    return (record){scratch, RECORD_HEADER + payload};
}

static record invented(uint8_t *scratch) {
    size_t payload = (size_t)(rand() % 24);
    scratch[0] = (uint8_t)(rand() % STEP_KINDS);
    for (size_t i = 0; i < payload; i++) scratch[RECORD_HEADER + i] = (uint8_t)(rand() % 4 == 0 ? rand() : rand() % 8);
    return (record){scratch, RECORD_HEADER + payload};
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    static record records[MOST_RECORDS];
    static uint8_t copy[1u << 20], scratch[RECORD_HEADER + LARGEST_PAYLOAD];
    srand(seed);
    if (size > sizeof copy) return LLVMFuzzerMutate(data, size, max_size);
    memcpy(copy, data, size);
    size_t n = split(copy, size, records), used = 0;
    int what = n == 0 ? 4 : rand() % 10;
    size_t at = n == 0 ? 0 : (size_t)rand() % n, other = n == 0 ? 0 : (size_t)rand() % n;
    for (size_t i = 0; i < n; i++) {
        record r = records[i];
        if (what == 0 && i == at) continue;
        if (what == 1 && i == at) used = put(data, used, max_size, r);
        if (what == 2 && i == at) r = records[other];
        if (what == 2 && i == other) r = records[at];
        if (what == 3 && i == at) used = put(data, used, max_size, records[other]);
        if (what == 4 && i == at) used = put(data, used, max_size, invented(scratch));
        if (what > 4 && i == at) r = changed(r, scratch);
        used = put(data, used, max_size, r);
    }
    if (n == 0) used = put(data, 0, max_size, invented(scratch));
    return used;
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size, uint8_t *out, size_t max_size,
                                 unsigned seed) {
    static record first[MOST_RECORDS], second[MOST_RECORDS];
    srand(seed);
    size_t n = split(a, a_size, first), m = split(b, b_size, second), used = 0;
    size_t kept = (size_t)rand() % (n + 1), skipped = (size_t)rand() % (m + 1);
    for (size_t i = 0; i < kept; i++) used = put(out, used, max_size, first[i]);
    for (size_t i = skipped; i < m; i++) used = put(out, used, max_size, second[i]);
    return used;
}

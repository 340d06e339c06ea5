/* Bit vectors over the nibbles of keys: see bits.h. */
#include "bits.h"
#include "table.h"

#include <stdlib.h>

#if defined(__AVX2__)
typedef long long dp_half __attribute__((vector_size(32), may_alias)); /* <immintrin.h> would take longer to read than all else to compile */
#endif

static inline bool any(const dp_row *row) {
#if defined(__AVX2__)
    const dp_half *half = (const dp_half *)(const void *)row;
    dp_half both = half[0] | half[1];
    return !__builtin_ia32_ptestz256(both, both);
#else
    uint64_t all = 0;
    for (uint32_t i = 0; i < 8; i++) all |= (*row)[i];
    return all != 0;
#endif
}

/* For each value of the nibble whether an entry allows it; nibbles count from the key's first, the high half of its first byte. */
static uint16_t allowed(const uint8_t *key, const uint8_t *mask, uint32_t nibble) {
    uint32_t shift = nibble % 2 == 0 ? 4 : 0, value = key[nibble / 2] >> shift & 15u, care = mask[nibble / 2] >> shift & 15u;
    uint16_t values = 0;
    for (uint32_t v = 0; v < 16; v++)
        if ((v & care) == (value & care)) values |= (uint16_t)(1u << v);
    return values;
}

/* The same of a range from `low` to `high`: the values that its numbers have in these four bits. */
static uint16_t allowed_in_range(const uint8_t *low, const uint8_t *high, uint32_t nibble) {
    uint64_t from = 0, to = 0; /* the numbers down to the nibble, modulo 2^64: their difference is what counts */
    for (uint32_t i = 0; i <= nibble / 2; i++) {
        if (to - from > 15) return 0xffff;
        from = from << 8 | low[i];
        to = to << 8 | high[i];
    }
    if (nibble % 2 == 0) {
        from >>= 4;
        to >>= 4;
    }
    if (to - from >= 15) return 0xffff;
    uint16_t values = 0;
    for (uint64_t i = 0; i <= to - from; i++) values |= (uint16_t)(1u << ((from + i) & 15));
    return values;
}

static void set(dp_bits_block *block, uint32_t bit, uint32_t nibble, uint16_t values) {
    for (uint32_t v = 0; v < 16; v++)
        if ((values >> v & 1) != 0) ((uint64_t *)(void *)&block->rows[nibble * 16 + v])[bit / 64] |= (uint64_t)1 << bit % 64;
}

static dp_bits_block *new_block(uint32_t nibbles) {
    dp_bits_block *block = calloc(1, sizeof *block);
    size_t size = (size_t)nibbles * 16 * sizeof(dp_row);
    if (block == NULL) return NULL;
    block->rows = aligned_alloc(64, size);
    if (block->rows == NULL) {
        free(block);
        return NULL;
    }
    memset(block->rows, 0, size);
    return block;
}

static bool room(dp_bits *bits, uint32_t block) {
    if (block >= bits->capacity) {
        uint32_t capacity = bits->capacity == 0 ? 4 : bits->capacity;
        while (capacity <= block) capacity *= 2;
        dp_bits_block **blocks = realloc(bits->blocks, capacity * sizeof *blocks);
        if (blocks == NULL) return false;
        memset(blocks + bits->capacity, 0, (capacity - bits->capacity) * sizeof *blocks);
        bits->blocks = blocks;
        bits->capacity = capacity;
    }
    if (block >= bits->n_blocks) bits->n_blocks = block + 1;
    return bits->blocks[block] != NULL || (bits->blocks[block] = new_block(bits->nibbles)) != NULL;
}

bool dp_bits_add(dp_table *t, uint32_t entry) {
    dp_bits *bits = t->bits;
    if (!room(bits, entry / DP_BITS_BLOCK)) return false;
    dp_bits_block *block = bits->blocks[entry / DP_BITS_BLOCK];
    uint32_t bit = entry % DP_BITS_BLOCK, nibble = 0;
    const uint8_t *key = dp_table_key(t, entry), *mask = dp_table_mask(t, entry);
    for (uint32_t k = 0; k < t->desc->n_keys; k++) {
        const p4prog_key_field *field = &t->desc->keys[k];
        const uint8_t *value = key + field->offset, *other = mask + field->offset;
        for (uint32_t i = 0; i < 2 * dp_bytes(field->width); i++, nibble++)
            set(block, bit, nibble, field->kind == P4PROG_RANGE ? allowed_in_range(value, other, i) : allowed(value, other, i));
    }
    block->priorities[bit] = dp_table_entry(t, entry)->priority;
    block->used++;
    return true;
}

void dp_bits_remove(dp_table *t, uint32_t entry) {
    dp_bits *bits = t->bits;
    dp_bits_block *block = bits->blocks[entry / DP_BITS_BLOCK];
    uint32_t bit = entry % DP_BITS_BLOCK;
    for (uint32_t row = 0; row < bits->nibbles * 16; row++) ((uint64_t *)(void *)&block->rows[row])[bit / 64] &= ~((uint64_t)1 << bit % 64);
    if (--block->used > 0) return;
    free(block->rows);
    free(block);
    bits->blocks[entry / DP_BITS_BLOCK] = NULL;
    while (bits->n_blocks > 0 && bits->blocks[bits->n_blocks - 1] == NULL) bits->n_blocks--;
}

bool dp_bits_build(dp_table *t) {
    if (t->key_size == 0 || t->key_size > DP_BITS_KEY_MAX) return false;
    t->bits = calloc(1, sizeof *t->bits);
    if (t->bits == NULL) return false;
    t->bits->nibbles = 2 * t->key_size;
    for (uint32_t i = 0; i < t->high_water; i++)
        if (dp_table_entry(t, i)->in_use && !dp_bits_add(t, i)) {
            dp_bits_free(t);
            return false;
        }
    return true;
}

void dp_bits_free(dp_table *t) {
    if (t->bits == NULL) return;
    for (uint32_t i = 0; i < t->bits->n_blocks; i++)
        if (t->bits->blocks[i] != NULL) {
            free(t->bits->blocks[i]->rows);
            free(t->bits->blocks[i]);
        }
    free(t->bits->blocks);
    free(t->bits);
    t->bits = NULL;
}

uint64_t dp_bits_memory(const dp_bits *bits) {
    uint64_t total = sizeof *bits + bits->capacity * sizeof *bits->blocks;
    for (uint32_t i = 0; i < bits->n_blocks; i++)
        if (bits->blocks[i] != NULL) total += sizeof **bits->blocks + (uint64_t)bits->nibbles * 16 * sizeof(dp_row);
    return total;
}

uint32_t dp_bits_find(const dp_table *t, const uint8_t *key) {
    const dp_bits *bits = t->bits;
    uint32_t rows[2 * DP_BITS_KEY_MAX], best = DP_NONE;
    int32_t best_priority = INT32_MIN;
    for (uint32_t i = 0; i < t->key_size; i++) {
        rows[2 * i] = 32 * i + (key[i] >> 4);
        rows[2 * i + 1] = 32 * i + 16 + (key[i] & 15u);
    }
    for (uint32_t b = 0; b < bits->n_blocks; b++) {
        const dp_bits_block *block = bits->blocks[b];
        if (block == NULL) continue;
        dp_row left = block->rows[rows[0]];
        uint32_t nibble = 1;
        /* A key has an even number of nibbles; most blocks have nothing left after a few. */
        for (left &= block->rows[rows[nibble++]]; nibble < bits->nibbles && any(&left); nibble += 2)
            left &= block->rows[rows[nibble]] & block->rows[rows[nibble + 1]];
        if (!any(&left)) continue;
        for (uint32_t w = 0; w < 8; w++)
            for (uint64_t word = left[w]; word != 0; word &= word - 1) {
                uint32_t bit = 64 * w + (uint32_t)__builtin_ctzll(word), entry = b * DP_BITS_BLOCK + bit;
                int32_t priority = block->priorities[bit];
                if (best != DP_NONE && (priority < best_priority ||
                                        (priority == best_priority && t->cold[entry].sequence > t->cold[best].sequence)))
                    continue;
                if (dp_table_entry(t, entry)->has_range && !dp_ternary_in_ranges(t, entry, key)) continue;
                best = entry;
                best_priority = priority;
            }
    }
    return best;
}

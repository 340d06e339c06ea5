/* Exact match: one hash probe. Lookups are specialised for keys of one and two words (up to 16 bytes). */
#include "table.h"

static inline bool words_equal(const uint64_t *a, const uint64_t *b, uint32_t n) {
    uint64_t difference = 0;
    for (uint32_t i = 0; i < n; i++) difference |= a[i] ^ b[i];
    return difference == 0;
}

static inline uint32_t find(const dp_table *t, const uint8_t *key, uint32_t n_words) {
    uint64_t words[DP_MAX_KEY_WORDS];
    dp_encode(key, t->key_size, n_words, words);
    uint32_t hash = dp_hash_words(words, n_words, t->seed);
    for (uint32_t i = dp_map_first(&t->map, hash), value; (value = dp_map_next(&t->map, hash, &i)) != 0;)
        if (LIKELY(words_equal(dp_table_entry(t, value - 1)->words, words, n_words))) return value - 1;
    return DP_NONE;
}

static uint32_t find_1(const dp_table *t, const uint8_t *key) { return find(t, key, 1); }
static uint32_t find_2(const dp_table *t, const uint8_t *key) { return find(t, key, 2); }
static uint32_t find_n(const dp_table *t, const uint8_t *key) { return find(t, key, t->n_words); }

dp_find dp_exact_find_function(uint32_t n_words) { return n_words == 1 ? find_1 : n_words == 2 ? find_2 : find_n; }

uint32_t dp_exact_find_same(const dp_table *t, const uint8_t *key) { return find_n(t, key); }

int dp_exact_link(dp_table *t, uint32_t index) {
    dp_entry *e = dp_table_entry(t, index);
    dp_encode(dp_table_key(t, index), t->key_size, t->n_words, e->words);
    t->cold[index].hash = dp_hash_words(e->words, t->n_words, t->seed);
    return dp_map_add(&t->map, t->cold[index].hash, index + 1) ? 0 : P4DP_ENOMEM;
}

void dp_exact_unlink(dp_table *t, uint32_t index) { dp_map_remove(&t->map, t->cold[index].hash, index + 1); }

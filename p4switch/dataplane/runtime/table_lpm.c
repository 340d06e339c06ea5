/* Longest prefix match, possibly after exact fields: one hash probe for each prefix length in use, longest first.
 *
 * All lengths share one map; the group's seed keeps equal masked keys of different lengths apart. Real tables use few lengths
 * (power-of-two segments and single pages in the rack), so this beats a trie's chain of dependent loads.
 */
#include "table.h"

static inline bool same(const uint64_t *a, const uint64_t *b, uint32_t n) {
    uint64_t difference = 0;
    for (uint32_t i = 0; i < n; i++) difference |= a[i] ^ b[i];
    return difference == 0;
}

static inline uint32_t probe(const dp_table *t, const uint64_t *masked, uint32_t n_words, uint32_t group) {
    uint32_t hash = dp_hash_words(masked, n_words, t->seed ^ t->groups[group].seed);
    for (uint32_t i = dp_map_first(&t->map, hash), value; (value = dp_map_next(&t->map, hash, &i)) != 0;)
        if (LIKELY(dp_table_entry(t, value - 1)->group == group && same(dp_table_entry(t, value - 1)->words, masked, n_words)))
            return value - 1;
    return DP_NONE;
}

static inline uint32_t find(const dp_table *t, const uint8_t *key, uint32_t n_words) {
    uint64_t words[DP_MAX_KEY_WORDS], masked[DP_MAX_KEY_WORDS];
    dp_encode(key, t->key_size, n_words, words);
    for (uint32_t k = 0; k < t->n_order; k++) {
        uint32_t group = t->order[k];
        const uint64_t *mask = t->groups[group].mask;
        for (uint32_t i = 0; i < n_words; i++) masked[i] = words[i] & mask[i];
        uint32_t found = probe(t, masked, n_words, group);
        if (found != DP_NONE) return found;
    }
    return DP_NONE;
}

static uint32_t find_1(const dp_table *t, const uint8_t *key) { return find(t, key, 1); }
static uint32_t find_2(const dp_table *t, const uint8_t *key) { return find(t, key, 2); }
static uint32_t find_n(const dp_table *t, const uint8_t *key) { return find(t, key, t->n_words); }

dp_find dp_lpm_find_function(uint32_t n_words) { return n_words == 1 ? find_1 : n_words == 2 ? find_2 : find_n; }

uint32_t dp_lpm_find_same(const dp_table *t, const uint8_t *key, const uint8_t *mask) {
    uint64_t words[DP_MAX_KEY_WORDS];
    dp_encode(mask, t->key_size, t->n_words, words);
    uint32_t group = dp_group_find(t, words);
    if (group == DP_NONE) return DP_NONE;
    dp_encode(key, t->key_size, t->n_words, words);
    return probe(t, words, t->n_words, group);
}

static int32_t prefix_length(const dp_table *t, const uint8_t *mask) {
    int32_t bits = 0;
    for (uint32_t k = 0; k < t->desc->n_keys; k++) {
        const p4prog_key_field *field = &t->desc->keys[k];
        if (field->kind == P4PROG_LPM)
            for (uint32_t i = 0; i < dp_bytes(field->width); i++) bits += __builtin_popcount(mask[field->offset + i]);
    }
    return bits;
}

int dp_lpm_link(dp_table *t, uint32_t index) {
    uint64_t words[DP_MAX_KEY_WORDS];
    dp_encode(dp_table_mask(t, index), t->key_size, t->n_words, words);
    uint32_t group = dp_group_obtain(t, words, prefix_length(t, dp_table_mask(t, index)));
    if (group == DP_NONE) return P4DP_ENOMEM;
    dp_entry *e = dp_table_entry(t, index);
    dp_encode(dp_table_key(t, index), t->key_size, t->n_words, e->words);
    dp_cold *cold = &t->cold[index];
    e->group = group;
    cold->hash = dp_hash_words(e->words, t->n_words, t->seed ^ t->groups[group].seed);
    if (!dp_map_add(&t->map, cold->hash, index + 1)) {
        if (t->groups[group].count == 0) dp_group_drop(t, group);
        return P4DP_ENOMEM;
    }
    t->groups[group].count++;
    return 0;
}

void dp_lpm_unlink(dp_table *t, uint32_t index) {
    dp_cold *cold = &t->cold[index];
    dp_map_remove(&t->map, cold->hash, index + 1);
    uint32_t group = dp_table_entry(t, index)->group;
    if (--t->groups[group].count == 0) dp_group_drop(t, group);
}

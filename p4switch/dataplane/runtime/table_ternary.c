/* Ternary, range and optional match: tuple-space search by priority, or bit vectors (bits.c) where there are many masks.
 *
 * Entries with the same mask form a group, entries of a group with the same masked key a chain in order of priority, found by one
 * hash probe. A range that is not a single value counts as "don't care" in the mask and is checked along the chain, so tables
 * whose entries differ only in ranges are searched linearly. Groups are tried in order of their highest priority. Among entries
 * of equal priority the older wins (P4Runtime leaves it open).
 */
#include "table.h"

bool dp_ternary_in_ranges(const dp_table *t, uint32_t entry, const uint8_t *key) {
    const uint8_t *low = dp_table_key(t, entry), *high = dp_table_mask(t, entry);
    for (uint32_t k = 0; k < t->desc->n_keys; k++) {
        const p4prog_key_field *field = &t->desc->keys[k];
        if (field->kind != P4PROG_RANGE) continue;
        uint32_t at = field->offset, size = dp_bytes(field->width);
        if (memcmp(key + at, low + at, size) < 0 || memcmp(key + at, high + at, size) > 0) return false;
    }
    return true;
}

static inline bool words_same(const uint64_t *a, const uint64_t *b, uint32_t n) {
    uint64_t difference = 0;
    for (uint32_t i = 0; i < n; i++) difference |= a[i] ^ b[i];
    return difference == 0;
}

/* The first entry of the chain for a masked key. */
static inline uint32_t chain(const dp_table *t, const uint64_t *masked, uint32_t n_words, uint32_t group) {
    uint32_t hash = dp_hash_words(masked, n_words, t->seed ^ t->groups[group].seed);
    for (uint32_t i = dp_map_first(&t->map, hash), value; (value = dp_map_next(&t->map, hash, &i)) != 0;)
        if (LIKELY(dp_table_entry(t, value - 1)->group == group && words_same(dp_table_entry(t, value - 1)->words, masked, n_words)))
            return value - 1;
    return DP_NONE;
}

static inline uint32_t find(const dp_table *t, const uint8_t *key, uint32_t n_words) {
    uint64_t words[DP_MAX_KEY_WORDS], masked[DP_MAX_KEY_WORDS];
    dp_encode(key, t->key_size, n_words, words);
    uint32_t best = DP_NONE;
    int32_t best_priority = INT32_MIN;
    for (uint32_t k = 0; k < t->n_order; k++) {
        uint32_t group = t->order[k];
        if (best != DP_NONE && best_priority > t->groups[group].max_priority) break;
        const uint64_t *mask = t->groups[group].mask;
        for (uint32_t i = 0; i < n_words; i++) masked[i] = words[i] & mask[i];
        for (uint32_t at = chain(t, masked, n_words, group); at != DP_NONE;) {
            const dp_entry *e = dp_table_entry(t, at);
            if (best != DP_NONE && e->priority < best_priority) break;
            if (!e->has_range || dp_ternary_in_ranges(t, at, key)) {
                if (best == DP_NONE || e->priority > best_priority || t->cold[at].sequence < t->cold[best].sequence) {
                    best = at;
                    best_priority = e->priority;
                }
                break; /* later ones of the chain are lower or younger */
            }
            at = e->next;
        }
    }
    return best;
}

static uint32_t find_1(const dp_table *t, const uint8_t *key) { return find(t, key, 1); }
static uint32_t find_2(const dp_table *t, const uint8_t *key) { return find(t, key, 2); }
static uint32_t find_n(const dp_table *t, const uint8_t *key) { return find(t, key, t->n_words); }

dp_find dp_ternary_find_function(uint32_t n_words) { return n_words == 1 ? find_1 : n_words == 2 ? find_2 : find_n; }

static void give_up_bits(dp_table *t) {
    dp_bits_free(t);
    t->find = dp_ternary_find_function(t->n_words);
}

/* The mask that the group is hashed by: range fields are left to dp_ternary_in_ranges unless they are one value. */
static bool group_mask(const dp_table *t, const uint8_t *key, const uint8_t *mask, uint64_t *mask_words, uint64_t *key_words) {
    uint8_t bytes[DP_MAX_KEY_WORDS * 8], masked[DP_MAX_KEY_WORDS * 8];
    bool has_range = false;
    memcpy(bytes, mask, t->key_size);
    for (uint32_t k = 0; k < t->desc->n_keys; k++) {
        const p4prog_key_field *field = &t->desc->keys[k];
        if (field->kind != P4PROG_RANGE) continue;
        uint32_t at = field->offset, size = dp_bytes(field->width);
        bool single = memcmp(key + at, mask + at, size) == 0;
        memset(bytes + at, single ? 0xff : 0, size);
        has_range |= !single;
    }
    for (uint32_t i = 0; i < t->key_size; i++) masked[i] = key[i] & bytes[i];
    dp_encode(bytes, t->key_size, t->n_words, mask_words);
    dp_encode(masked, t->key_size, t->n_words, key_words);
    return has_range;
}

uint32_t dp_ternary_find_same(const dp_table *t, const uint8_t *key, const uint8_t *mask, int32_t priority) {
    uint64_t mask_words[DP_MAX_KEY_WORDS], key_words[DP_MAX_KEY_WORDS];
    group_mask(t, key, mask, mask_words, key_words);
    uint32_t group = dp_group_find(t, mask_words);
    if (group == DP_NONE) return DP_NONE;
    for (uint32_t at = chain(t, key_words, t->n_words, group); at != DP_NONE; at = dp_table_entry(t, at)->next)
        if (dp_table_entry(t, at)->priority == priority && memcmp(dp_table_key(t, at), key, t->key_size) == 0 &&
            memcmp(dp_table_mask(t, at), mask, t->key_size) == 0)
            return at;
    return DP_NONE;
}

int dp_ternary_link(dp_table *t, uint32_t index) {
    uint64_t mask_words[DP_MAX_KEY_WORDS];
    dp_entry *e = dp_table_entry(t, index);
    dp_cold *cold = &t->cold[index];
    e->has_range = group_mask(t, dp_table_key(t, index), dp_table_mask(t, index), mask_words, e->words);
    uint32_t group = dp_group_obtain(t, mask_words, 0);
    if (group == DP_NONE) return P4DP_ENOMEM;
    e->group = group;
    cold->hash = dp_hash_words(e->words, t->n_words, t->seed ^ t->groups[group].seed);

    uint32_t head = chain(t, e->words, t->n_words, group);
    uint32_t before = DP_NONE, after = head;
    while (after != DP_NONE) {
        const dp_entry *other = dp_table_entry(t, after);
        if (other->priority < e->priority || (other->priority == e->priority && t->cold[after].sequence > cold->sequence)) break;
        before = after;
        after = other->next;
    }
    if (head == DP_NONE) {
        if (!dp_map_add(&t->map, cold->hash, index + 1)) {
            if (t->groups[group].count == 0) dp_group_drop(t, group);
            return P4DP_ENOMEM;
        }
    } else if (before == DP_NONE) {
        dp_map_replace(&t->map, cold->hash, head + 1, index + 1);
    }
    e->next = after;
    if (before != DP_NONE) dp_table_entry(t, before)->next = index;

    t->n_ranges += e->has_range;
    if (t->bits != NULL && !dp_bits_add(t, index)) give_up_bits(t);
    dp_group *g = &t->groups[group];
    g->count++;
    if (g->count == 1 || e->priority > g->max_priority) {
        g->max_priority = e->priority;
        g->removed_max = 0;
        t->order_dirty = true;
    }
    return 0;
}

void dp_ternary_unlink(dp_table *t, uint32_t index) {
    dp_entry *e = dp_table_entry(t, index);
    dp_cold *cold = &t->cold[index];
    uint32_t head = chain(t, e->words, t->n_words, e->group);
    if (head == index) {
        if (e->next == DP_NONE)
            dp_map_remove(&t->map, cold->hash, index + 1);
        else
            dp_map_replace(&t->map, cold->hash, index + 1, e->next + 1);
    } else {
        uint32_t before = head;
        while (dp_table_entry(t, before)->next != index) before = dp_table_entry(t, before)->next;
        dp_table_entry(t, before)->next = e->next;
    }
    t->n_ranges -= e->has_range;
    if (t->bits != NULL) dp_bits_remove(t, index);
    dp_group *g = &t->groups[e->group];
    if (--g->count == 0) {
        dp_group_drop(t, e->group);
    } else if (e->priority == g->max_priority) {
        g->removed_max++;
        t->order_dirty = true;
    }
}

/* Nanoseconds, roughly and at worst: a probe for each mask and a comparison for each range; or the blocks of bit vectors. */
static uint32_t tuple_cost(const dp_table *t) { return 8 * t->n_order + 6 * t->n_ranges; }
static uint32_t bits_cost(const dp_table *t) { return 16 + 16 * ((t->high_water + DP_BITS_BLOCK - 1) / DP_BITS_BLOCK); }

/* Use the faster index. Half as much again lies between taking it up and giving it up, so that a table does not go to and fro. */
static void choose_index(dp_table *t) {
    if (t->bits == NULL && tuple_cost(t) > bits_cost(t)) {
        if (dp_bits_build(t)) t->find = dp_bits_find;
    } else if (t->bits != NULL && 2 * tuple_cost(t) < bits_cost(t)) {
        give_up_bits(t);
    }
}

void dp_ternary_settle(dp_table *t) {
    choose_index(t);
    if (!t->order_dirty) return;
    t->order_dirty = false;
    /* A bound that is too high only costs time. It is recomputed for all groups at once, when some group has lost many entries of
       its highest priority: constant cost a deletion on average. */
    bool stale = false;
    for (uint32_t k = 0; k < t->n_order && !stale; k++) {
        const dp_group *g = &t->groups[t->order[k]];
        stale = g->removed_max > 0 && g->removed_max * 8 >= t->n_entries;
    }
    if (stale) {
        for (uint32_t k = 0; k < t->n_order; k++) {
            t->groups[t->order[k]].max_priority = INT32_MIN;
            t->groups[t->order[k]].removed_max = 0;
        }
        for (uint32_t i = 0; i < t->high_water; i++) {
            const dp_entry *e = dp_table_entry(t, i);
            if (!e->in_use) continue;
            dp_group *g = &t->groups[e->group];
            if (e->priority > g->max_priority) g->max_priority = e->priority;
        }
    }
    /* Nearly sorted already: insertion sort. */
    for (uint32_t k = 1; k < t->n_order; k++) {
        uint32_t group = t->order[k], at = k;
        int32_t priority = t->groups[group].max_priority;
        for (; at > 0 && t->groups[t->order[at - 1]].max_priority < priority; at--) t->order[at] = t->order[at - 1];
        t->order[at] = group;
    }
}

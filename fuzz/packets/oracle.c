/* Every table lookup compared with what the table's entries, read back one by one, say: the longest prefix or the largest priority
 * of those that match. Also remembers keys that were looked up, so that inputs can add entries that packets hit.
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#define TABLES 64u /* more are not checked */
#define REMEMBERED 4u

typedef struct {
    p4dp_entry_view *entries;
    uint32_t n, capacity;
    uint8_t seen[REMEMBERED][LARGEST_KEY];
    uint32_t n_seen;
} shadow;

static shadow shadows[TABLES];
static uint8_t seen_values[TABLES][LARGEST_KEY];
static bool has_seen_value[TABLES];
static bool fresh;

p4prog_match oracle_lookup(p4prog_env *env, uint32_t table, const uint8_t *key, uint32_t packet_length);
bool oracle_value_set_contains(p4prog_env *env, uint32_t value_set, const uint8_t *key);

uint32_t bytes_of(uint32_t bits) { return (bits + 7) / 8; }

static uint32_t checked_tables(void) { return p4prog_main.n_tables < TABLES ? p4prog_main.n_tables : TABLES; }

void oracle_forget(void) { fresh = false; }

void oracle_reset(void) {
    oracle_forget();
    for (uint32_t i = 0; i < TABLES; i++) shadows[i].n_seen = 0;
    memset(has_seen_value, 0, sizeof has_seen_value);
}

void oracle_refresh(p4dp_switch *sw) {
    if (fresh) return;
    for (uint32_t i = 0; i < checked_tables(); i++) {
        shadow *s = &shadows[i];
        p4dp_entry_view view;
        s->n = 0;
        for (uint64_t handle = 0; p4dp_entry_next(sw, i, handle, &view) == 0; handle = view.handle) {
            if (s->n == s->capacity) {
                s->capacity = s->capacity == 0 ? 64 : 2 * s->capacity;
                s->entries = realloc(s->entries, s->capacity * sizeof *s->entries);
                if (s->entries == NULL) abort();
            }
            s->entries[s->n++] = view;
        }
        if (s->n != p4dp_entry_count(sw, i)) broken("table %s says it has %llu entries and lists %u", p4prog_main.tables[i].name,
                                                    (unsigned long long)p4dp_entry_count(sw, i), s->n);
        if (s->n > p4prog_main.tables[i].size) broken("table %s has %u entries and takes %u", p4prog_main.tables[i].name, s->n,
                                                      p4prog_main.tables[i].size);
    }
    fresh = true;
}

const uint8_t *oracle_seen(uint32_t table, uint32_t back) {
    if (table >= TABLES || shadows[table].n_seen == 0) return NULL;
    uint32_t known = shadows[table].n_seen < REMEMBERED ? shadows[table].n_seen : REMEMBERED;
    return shadows[table].seen[(shadows[table].n_seen - 1 - back % known) % REMEMBERED];
}

const uint8_t *oracle_seen_value(uint32_t value_set) {
    return value_set < TABLES && has_seen_value[value_set] ? seen_values[value_set] : NULL;
}

static bool field_matches(const p4prog_key_field *field, const p4dp_entry_view *entry, const uint8_t *key) {
    uint32_t at = field->offset, size = bytes_of(field->width);
    if (field->kind == P4PROG_SELECTOR) return true;
    if (field->kind == P4PROG_RANGE) return memcmp(key + at, entry->key + at, size) >= 0 && memcmp(key + at, entry->mask + at, size) <= 0;
    for (uint32_t i = at; i < at + size; i++)
        if (((key[i] ^ entry->key[i]) & (field->kind == P4PROG_EXACT ? 0xff : entry->mask[i])) != 0) return false;
    return true;
}

/* Larger wins; INT64_MIN when the entry does not match. */
static int64_t rank_of(const p4prog_table *table, const p4dp_entry_view *entry, const uint8_t *key) {
    int64_t prefix = 0;
    bool prioritised = false;
    for (uint32_t k = 0; k < table->n_keys; k++) {
        const p4prog_key_field *field = &table->keys[k];
        if (!field_matches(field, entry, key)) return INT64_MIN;
        if (field->kind == P4PROG_LPM)
            for (uint32_t i = 0; i < bytes_of(field->width); i++) prefix += __builtin_popcount(entry->mask[field->offset + i]);
        prioritised |= field->kind == P4PROG_TERNARY || field->kind == P4PROG_RANGE || field->kind == P4PROG_OPTIONAL;
    }
    return prioritised ? entry->priority : prefix;
}

static bool gives(const p4dp_entry_view *entry, const p4prog_match *match) {
    if (entry->kind != P4DP_ACTION) return match->hit;
    return match->hit && match->action == entry->action &&
           memcmp(match->data, entry->data, p4prog_main.actions[entry->action].data_size) == 0;
}

p4prog_match oracle_lookup(p4prog_env *env, uint32_t number, const uint8_t *key, uint32_t packet_length) {
    p4prog_match match = p4prog_lookup(env, number, key, packet_length);
    const p4prog_table *table = &p4prog_main.tables[number];
    count.lookups++;
    count.hits += match.hit;
    if (number >= TABLES || !fresh) return match;
    shadow *s = &shadows[number];
    if (table->key_size <= LARGEST_KEY) memcpy(s->seen[s->n_seen++ % REMEMBERED], key, table->key_size);

    int64_t best = INT64_MIN;
    bool agreed = false;
    for (uint32_t i = 0; i < s->n; i++) {
        int64_t rank = rank_of(table, &s->entries[i], key);
        if (rank == INT64_MIN || rank < best) continue;
        if (rank > best) agreed = false;
        best = rank;
        agreed |= gives(&s->entries[i], &match);
    }
    bool empty_group = match.hit && match.action == P4PROG_NO_ACTION && table->implementation >= 0;
    if (match.action >= p4prog_main.n_actions && !empty_group) broken("lookup in %s gives action %u", table->name, match.action);
    if (best == INT64_MIN ? match.hit : !agreed)
        broken("lookup in %s gives a %s, action %u, which is not what its %u entries say", table->name, match.hit ? "hit" : "miss",
               match.action, s->n);
    return match;
}

bool oracle_value_set_contains(p4prog_env *env, uint32_t value_set, const uint8_t *key) {
    if (value_set < TABLES && p4prog_main.value_sets[value_set].key_size <= LARGEST_KEY) {
        memcpy(seen_values[value_set], key, p4prog_main.value_sets[value_set].key_size);
        has_seen_value[value_set] = true;
    }
    return p4prog_value_set_contains(env, value_set, key);
}

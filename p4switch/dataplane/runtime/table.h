/* Match-action tables: entry storage, the three kinds of index over it, and the key encoding they share.
 *
 * Entries lie in two parallel arrays. The hot one holds what a packet touches (counters, action, match words, action data), one
 * cache line for common keys; the cold one what only the control side reads. Both grow by doubling; pointers into them are
 * good until the next change of the table, and changes happen only between batches of packets.
 *
 * Keys are matched as 64-bit words. A key of n bytes is encoded with overlapping loads instead of padding (8 <= n <= 16: the first
 * and the last eight bytes), which is injective for a fixed n and commutes with masking, so masks are encoded alike.
 */
#ifndef P4DP_TABLE_H
#define P4DP_TABLE_H

#include "bits.h"
#include "common.h"
#include "index_map.h"

#define DP_NONE UINT32_MAX
#define DP_MAX_KEY_WORDS 128u /* 1024 bytes of key */

typedef enum { DP_EXACT, DP_LPM, DP_TERNARY } dp_table_kind;

/* RFC 2698 two-rate three-colour marker as bmv2 computes it; times in microseconds since the configuration. */
typedef struct {
    p4dp_meter_config config;
    uint64_t started_us;
    uint64_t tokens[2], granted[2]; /* committed, peak */
} dp_meter;

typedef struct {
    uint64_t packets, bytes; /* direct counter */
    uint32_t action; /* action index, member id or group id */
    uint8_t kind; /* p4dp_entry_kind */
    bool in_use, has_range;
    int32_t priority;
    uint32_t next; /* ternary: next entry with the same masked key; free list */
    uint32_t group; /* lpm, ternary: its mask */
    uint64_t words[]; /* match words, then action data at table->data_offset */
} dp_entry;

typedef struct {
    uint64_t handle, cookie, sequence; /* sequence: order of insertion, breaks ties of priority */
    uint64_t idle_timeout_ns, last_hit_ns;
    uint32_t hash;
    uint64_t idle_notified_ns; /* when the controller was last told that the entry is idle */
    bool is_const;
    dp_meter *meter;
} dp_cold;

/* Entries that share a mask: a prefix length of an LPM table, a mask of a ternary one. */
typedef struct {
    uint32_t count; /* 0: free */
    uint32_t seed; /* mixed into the hash, so that groups share one map */
    int32_t prefix_length; /* lpm */
    int32_t max_priority; /* ternary: an upper bound */
    uint32_t removed_max; /* deletions that may have lowered the bound */
    uint32_t hash; /* of the mask */
    uint32_t next_free;
    uint64_t *mask;
} dp_group;

typedef struct dp_table dp_table;
typedef uint32_t (*dp_find)(const dp_table *table, const uint8_t *key);

struct dp_table {
    dp_find find; /* a packet's key to an entry's index, DP_NONE for a miss */
    uint8_t *hot;
    uint32_t stride, data_offset;
    uint64_t seed;
    dp_map map; /* exact, lpm: entries; ternary: first entry of a chain */
    /* groups in the order in which they are tried, and the store they are in */
    uint32_t *order;
    uint32_t n_order;
    dp_group *groups;
    uint32_t n_groups, group_capacity, free_group;
    dp_map group_map; /* mask to group */
    bool order_dirty;
    dp_bits *bits; /* ternary tables with many masks or ranges; else NULL */
    uint32_t n_ranges; /* ternary: entries with a range that is not one number */

    const p4prog_table *desc;
    uint32_t index, key_size, n_words, data_size;
    dp_table_kind kind;
    bool has_selector, counts, has_idle;
    uint8_t *full_mask; /* key_size bytes: the bits that are part of the match */
    uint8_t *key_store; /* key and mask of each entry, 2 * key_size bytes */
    dp_cold *cold;
    uint32_t capacity, high_water, free_head, n_entries;
    uint32_t generation;
    uint64_t sequence;

    uint32_t default_action;
    p4dp_entry_kind default_kind;
    uint8_t *default_data;
    uint64_t default_cookie;

    /* direct meters: the colour of the last lookup, and the pass that made it */
    uint64_t metered_pass;
    uint32_t colour;
};

static inline dp_entry *dp_table_entry(const dp_table *t, uint32_t index) {
    return (dp_entry *)(void *)(t->hot + (size_t)index * t->stride);
}
static inline uint8_t *dp_entry_data(const dp_table *t, dp_entry *e) { return (uint8_t *)e + t->data_offset; }
static inline uint8_t *dp_table_key(const dp_table *t, uint32_t index) { return t->key_store + (size_t)index * 2 * t->key_size; }
static inline uint8_t *dp_table_mask(const dp_table *t, uint32_t index) { return dp_table_key(t, index) + t->key_size; }

static inline uint32_t dp_word_count(uint32_t key_size) { return key_size <= 8 ? 1 : (key_size + 7) / 8; }

/* key_size bytes to words; n_words is passed apart so that callers with a constant get straight-line code. */
static inline void dp_encode(const uint8_t *key, uint32_t key_size, uint32_t n_words, uint64_t *words) {
    if (n_words == 1) {
        if (key_size >= 4)
            words[0] = key_size == 8 ? dp_load64(key) : dp_load32(key) | (uint64_t)dp_load32(key + key_size - 4) << 32;
        else
            words[0] = key_size == 0 ? 0 : key[0] | (uint64_t)key[key_size / 2] << 8 | (uint64_t)key[key_size - 1] << 16;
        return;
    }
    for (uint32_t i = 0; i + 1 < n_words; i++) words[i] = dp_load64(key + 8 * (size_t)i);
    words[n_words - 1] = dp_load64(key + key_size - 8);
}

static inline uint64_t dp_mix(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* A multiply-and-fold hash. The seed is random for each switch, so that colliding keys cannot be prepared from outside. */
static inline uint32_t dp_hash_words(const uint64_t *words, uint32_t n_words, uint64_t seed) {
    uint64_t h = seed;
    if (n_words == 2) return (uint32_t)dp_mix(dp_mix(words[0] ^ h, 0x9e3779b97f4a7c15u) ^ words[1], 0xd6e8feb86659fd93u);
    for (uint32_t i = 0; i < n_words; i++) h = dp_mix(words[i] ^ h, 0x9e3779b97f4a7c15u);
    return (uint32_t)(h ^ h >> 32);
}

/* ---- entry storage and control (table.c) */
bool dp_table_init(dp_table *t, const p4prog_program *program, uint32_t index, uint64_t seed);
void dp_table_free(dp_table *t);
/* Index operations of the kinds. insert: the entry's key, mask, priority and sequence are stored already; links it. */
int dp_table_link(dp_table *t, uint32_t entry);
void dp_table_unlink(dp_table *t, uint32_t entry);
/* The entry with exactly this normalised key, mask and priority. */
uint32_t dp_table_find_same(const dp_table *t, const uint8_t *key, const uint8_t *mask, int32_t priority);
/* Bring the order of groups up to date after changes. */
void dp_table_settle(dp_table *t);
uint64_t dp_table_memory(const dp_table *t);
/* Check and normalise into key_out and mask_out. */
int dp_table_normalise(const dp_table *t, const uint8_t *key, const uint8_t *mask, int32_t priority, uint8_t *key_out,
                       uint8_t *mask_out);
uint32_t dp_table_allocate(dp_table *t); /* DP_NONE when out of memory; does not look at the size limit */
void dp_table_release(dp_table *t, uint32_t entry);
uint32_t dp_table_by_handle(const dp_table *t, uint64_t handle);

/* ---- groups (groups.c) */
uint32_t dp_group_find(const dp_table *t, const uint64_t *mask);
uint32_t dp_group_obtain(dp_table *t, const uint64_t *mask, int32_t prefix_length); /* DP_NONE: out of memory */
void dp_group_drop(dp_table *t, uint32_t group); /* when its count is 0 */

/* ---- kinds */
dp_find dp_exact_find_function(uint32_t n_words);
int dp_exact_link(dp_table *t, uint32_t entry);
void dp_exact_unlink(dp_table *t, uint32_t entry);
uint32_t dp_exact_find_same(const dp_table *t, const uint8_t *key);

dp_find dp_lpm_find_function(uint32_t n_words);
int dp_lpm_link(dp_table *t, uint32_t entry);
void dp_lpm_unlink(dp_table *t, uint32_t entry);
uint32_t dp_lpm_find_same(const dp_table *t, const uint8_t *key, const uint8_t *mask);

dp_find dp_ternary_find_function(uint32_t n_words);
int dp_ternary_link(dp_table *t, uint32_t entry);
void dp_ternary_unlink(dp_table *t, uint32_t entry);
uint32_t dp_ternary_find_same(const dp_table *t, const uint8_t *key, const uint8_t *mask, int32_t priority);
void dp_ternary_settle(dp_table *t);
bool dp_ternary_in_ranges(const dp_table *t, uint32_t entry, const uint8_t *key);

#endif

/* Open-addressing map from 32-bit hashes to 32-bit values with linear probing: the index under all tables.
 *
 * A map stores no keys: a probe walks the values whose hash is equal and the caller compares what they stand for. Value 0
 * means an empty slot, so callers store index + 1. Deletion shifts back, so there are no tombstones and a table that lives
 * through millions of updates stays as fast as a fresh one.
 */
#ifndef P4DP_INDEX_MAP_H
#define P4DP_INDEX_MAP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct {
    uint32_t hash, value;
} dp_slot;

typedef struct {
    dp_slot *slots; /* mask + 1 of them, a power of two; never NULL once initialised */
    uint32_t mask, used;
} dp_map;

static inline bool dp_map_init(dp_map *map) {
    map->mask = 15;
    map->used = 0;
    map->slots = calloc(map->mask + 1u, sizeof *map->slots);
    return map->slots != NULL;
}

static inline void dp_map_free(dp_map *map) {
    free(map->slots);
    map->slots = NULL;
}

/* for (uint32_t i = dp_map_first(map, hash), value; (value = dp_map_next(map, hash, &i)) != 0;) */
static inline uint32_t dp_map_first(const dp_map *map, uint32_t hash) { return hash & map->mask; }

static inline uint32_t dp_map_next(const dp_map *map, uint32_t hash, uint32_t *position) {
    for (;;) {
        dp_slot slot = map->slots[*position];
        if (slot.value == 0) return 0;
        *position = (*position + 1) & map->mask;
        if (slot.hash == hash) return slot.value;
    }
}

static inline void dp_map_place(dp_slot *slots, uint32_t mask, uint32_t hash, uint32_t value) {
    uint32_t i = hash & mask;
    while (slots[i].value != 0) i = (i + 1) & mask;
    slots[i] = (dp_slot){hash, value};
}

/* False when out of memory; the map is then as before. */
static inline bool dp_map_add(dp_map *map, uint32_t hash, uint32_t value) {
    if ((uint64_t)(map->used + 1) * 2 > (uint64_t)map->mask + 1) {
        uint32_t mask = map->mask * 2 + 1;
        dp_slot *slots = calloc((size_t)mask + 1, sizeof *slots);
        if (slots == NULL) return false;
        for (uint32_t i = 0; i <= map->mask; i++)
            if (map->slots[i].value != 0) dp_map_place(slots, mask, map->slots[i].hash, map->slots[i].value);
        free(map->slots);
        map->slots = slots;
        map->mask = mask;
    }
    dp_map_place(map->slots, map->mask, hash, value);
    map->used++;
    return true;
}

static inline void dp_map_remove(dp_map *map, uint32_t hash, uint32_t value) {
    uint32_t hole = hash & map->mask;
    while (map->slots[hole].value != value || map->slots[hole].hash != hash) {
        if (map->slots[hole].value == 0) return;
        hole = (hole + 1) & map->mask;
    }
    map->used--;
    for (uint32_t i = (hole + 1) & map->mask; map->slots[i].value != 0; i = (i + 1) & map->mask) {
        /* A slot may move back into the hole unless its home lies after the hole (cyclically). */
        uint32_t home = map->slots[i].hash & map->mask;
        if (((i - home) & map->mask) >= ((i - hole) & map->mask)) {
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole].value = 0;
}

/* Change what a hash points to. */
static inline void dp_map_replace(dp_map *map, uint32_t hash, uint32_t from, uint32_t to) {
    for (uint32_t i = hash & map->mask; map->slots[i].value != 0; i = (i + 1) & map->mask)
        if (map->slots[i].hash == hash && map->slots[i].value == from) {
            map->slots[i].value = to;
            return;
        }
}

static inline uint64_t dp_map_memory(const dp_map *map) { return ((uint64_t)map->mask + 1) * sizeof *map->slots; }

#endif

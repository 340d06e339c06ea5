/* Groups of entries with a common mask (tuple space), and the order in which lookups try them.
 *
 * LPM tables have one group a prefix length, longest first. Ternary tables have one a mask, highest priority first, so that a
 * lookup stops as soon as no later group can win.
 */
#include "table.h"

static uint32_t mask_hash(const dp_table *t, const uint64_t *mask) { return dp_hash_words(mask, t->n_words, t->seed ^ 0x5bd1e995); }

uint32_t dp_group_find(const dp_table *t, const uint64_t *mask) {
    uint32_t hash = mask_hash(t, mask);
    for (uint32_t i = dp_map_first(&t->group_map, hash), value; (value = dp_map_next(&t->group_map, hash, &i)) != 0;)
        if (memcmp(t->groups[value - 1].mask, mask, t->n_words * sizeof *mask) == 0) return value - 1;
    return DP_NONE;
}

uint32_t dp_group_obtain(dp_table *t, const uint64_t *mask, int32_t prefix_length) {
    uint32_t found = dp_group_find(t, mask);
    if (found != DP_NONE) return found;

    uint32_t index = t->free_group != DP_NONE ? t->free_group : t->n_groups;
    if (index == t->group_capacity) {
        uint32_t capacity = t->group_capacity == 0 ? 8 : t->group_capacity * 2;
        dp_group *groups = realloc(t->groups, capacity * sizeof *groups);
        if (groups == NULL) return DP_NONE;
        t->groups = groups;
        uint32_t *order = realloc(t->order, capacity * sizeof *order);
        if (order == NULL) return DP_NONE;
        t->order = order;
        t->group_capacity = capacity;
    }
    dp_group *group = &t->groups[index];
    bool used_before = index == t->free_group;
    uint32_t next_free = used_before ? group->next_free : DP_NONE;
    /* A group that is free keeps its mask's memory, so that a deletion can be taken back when there is no more. */
    uint64_t *copy = used_before ? group->mask : malloc(t->n_words * sizeof *copy);
    if (copy == NULL) return DP_NONE;
    memcpy(copy, mask, t->n_words * sizeof *copy);
    *group = (dp_group){
        .seed = (index + 1) * 0x9e3779b1u, .prefix_length = prefix_length, .max_priority = INT32_MIN, .hash = mask_hash(t, mask), .mask = copy};
    if (!dp_map_add(&t->group_map, group->hash, index + 1)) {
        group->next_free = next_free;
        if (!used_before) free(copy);
        return DP_NONE;
    }
    if (index == t->n_groups)
        t->n_groups++;
    else
        t->free_group = next_free;

    uint32_t at = t->n_order++;
    if (t->kind == DP_LPM)
        for (; at > 0 && t->groups[t->order[at - 1]].prefix_length < prefix_length; at--) t->order[at] = t->order[at - 1];
    t->order[at] = index;
    return index;
}

void dp_group_drop(dp_table *t, uint32_t index) {
    dp_group *group = &t->groups[index];
    dp_map_remove(&t->group_map, group->hash, index + 1);
    group->next_free = t->free_group;
    t->free_group = index;
    uint32_t at = 0;
    while (t->order[at] != index) at++;
    t->n_order--;
    memmove(&t->order[at], &t->order[at + 1], (t->n_order - at) * sizeof *t->order);
}

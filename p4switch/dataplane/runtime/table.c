/* Entry storage of tables, checking and normalising of keys, and the dispatch to the three kinds of index. */
#include "table.h"

#include <stdlib.h>


static uint8_t field_top_mask(uint32_t width) { return width % 8 == 0 ? 0xff : (uint8_t)((1u << width % 8) - 1); }

static dp_table_kind kind_of(const p4prog_table *desc) {
    dp_table_kind kind = DP_EXACT;
    for (uint32_t k = 0; k < desc->n_keys; k++) {
        switch (desc->keys[k].kind) {
        case P4PROG_EXACT: break;
        case P4PROG_LPM:
        case P4PROG_SELECTOR: /* a masked lookup with a single mask */
            if (kind == DP_EXACT) kind = DP_LPM;
            break;
        case P4PROG_TERNARY:
        case P4PROG_RANGE:
        case P4PROG_OPTIONAL: kind = DP_TERNARY; break;
        }
    }
    return kind;
}

bool dp_table_init(dp_table *t, const p4prog_program *program, uint32_t index, uint64_t seed) {
    const p4prog_table *desc = &program->tables[index];
    *t = (dp_table){.desc = desc, .index = index, .key_size = desc->key_size, .seed = seed | 1, .free_head = DP_NONE, .free_group = DP_NONE};
    if (desc->key_size > DP_MAX_KEY_WORDS * 8) return false;
    t->n_words = dp_word_count(desc->key_size);
    t->kind = kind_of(desc);
    t->counts = desc->counter >= 0;
    t->has_idle = desc->idle_timeout;
    for (uint32_t a = 0; a < desc->n_actions; a++)
        if (program->actions[desc->actions[a]].data_size > t->data_size) t->data_size = program->actions[desc->actions[a]].data_size;
    uint32_t default_size = program->actions[desc->default_action].data_size;
    if (default_size > t->data_size) t->data_size = default_size;
    t->data_offset = (uint32_t)offsetof(dp_entry, words) + 8 * t->n_words;
    t->stride = (uint32_t)dp_align(t->data_offset + t->data_size, 64);
    switch (t->kind) {
    case DP_EXACT: t->find = dp_exact_find_function(t->n_words); break;
    case DP_LPM: t->find = dp_lpm_find_function(t->n_words); break;
    case DP_TERNARY: t->find = dp_ternary_find_function(t->n_words); break;
    }
    t->full_mask = calloc(1, t->key_size + 1u);
    t->default_data = calloc(1, t->data_size + 1u);
    if (t->full_mask == NULL || t->default_data == NULL || !dp_map_init(&t->map) || !dp_map_init(&t->group_map)) return false;
    for (uint32_t k = 0; k < desc->n_keys; k++) {
        const p4prog_key_field *field = &desc->keys[k];
        if (field->kind == P4PROG_SELECTOR) {
            t->has_selector = true;
            continue;
        }
        memset(t->full_mask + field->offset, 0xff, dp_bytes(field->width));
        if (field->width > 0) t->full_mask[field->offset] = field_top_mask(field->width);
    }
    t->default_action = desc->default_action;
    if (default_size > 0 && desc->default_data != NULL) memcpy(t->default_data, desc->default_data, default_size);
    return true;
}

void dp_table_free(dp_table *t) {
    for (uint32_t i = 0; i < t->high_water; i++) free(t->cold[i].meter);
    dp_bits_free(t);
    for (uint32_t k = 0; k < t->n_groups; k++) free(t->groups[k].mask);
    dp_map_free(&t->map);
    dp_map_free(&t->group_map);
    free(t->hot);
    free(t->cold);
    free(t->key_store);
    free(t->groups);
    free(t->order);
    free(t->full_mask);
    free(t->default_data);
}

static bool grow(dp_table *t) {
    uint32_t capacity = t->capacity == 0 ? 16 : t->capacity * 2;
    /* aligned_alloc has no realloc, and hot entries are to start on cache lines. */
    uint8_t *hot = aligned_alloc(64, (size_t)capacity * t->stride);
    if (hot == NULL) return false;
    dp_cold *cold = realloc(t->cold, capacity * sizeof *cold);
    if (cold != NULL) t->cold = cold;
    uint8_t *keys = realloc(t->key_store, (size_t)capacity * 2 * t->key_size + 1);
    if (keys != NULL) t->key_store = keys;
    if (cold == NULL || keys == NULL) {
        free(hot);
        return false;
    }
    if (t->high_water > 0) memcpy(hot, t->hot, (size_t)t->high_water * t->stride);
    free(t->hot);
    t->hot = hot;
    t->capacity = capacity;
    return true;
}

uint32_t dp_table_allocate(dp_table *t) {
    uint32_t index = t->free_head;
    if (index != DP_NONE) {
        t->free_head = dp_table_entry(t, index)->next;
    } else {
        if (t->high_water == t->capacity && !grow(t)) return DP_NONE;
        index = t->high_water++;
    }
    memset(dp_table_entry(t, index), 0, t->stride);
    t->cold[index] = (dp_cold){.handle = (uint64_t)++t->generation << 32 | (index + 1u), .sequence = ++t->sequence};
    dp_table_entry(t, index)->next = dp_table_entry(t, index)->group = DP_NONE;
    return index;
}

void dp_table_release(dp_table *t, uint32_t index) {
    free(t->cold[index].meter);
    t->cold[index] = (dp_cold){0};
    dp_entry *e = dp_table_entry(t, index);
    e->in_use = false;
    e->next = t->free_head;
    t->free_head = index;
}

uint32_t dp_table_by_handle(const dp_table *t, uint64_t handle) {
    uint32_t index = (uint32_t)handle - 1;
    if (handle == 0 || index >= t->high_water) return DP_NONE;
    return t->cold[index].handle == handle && dp_table_entry(t, index)->in_use ? index : DP_NONE;
}

int dp_table_link(dp_table *t, uint32_t index) {
    int result = t->kind == DP_EXACT ? dp_exact_link(t, index) : t->kind == DP_LPM ? dp_lpm_link(t, index) : dp_ternary_link(t, index);
    if (result != 0) return result;
    dp_table_entry(t, index)->in_use = true;
    t->n_entries++;
    return 0;
}

void dp_table_unlink(dp_table *t, uint32_t index) {
    switch (t->kind) {
    case DP_EXACT: dp_exact_unlink(t, index); break;
    case DP_LPM: dp_lpm_unlink(t, index); break;
    case DP_TERNARY: dp_ternary_unlink(t, index); break;
    }
    dp_table_entry(t, index)->in_use = false;
    t->n_entries--;
}

uint32_t dp_table_find_same(const dp_table *t, const uint8_t *key, const uint8_t *mask, int32_t priority) {
    switch (t->kind) {
    case DP_EXACT: return dp_exact_find_same(t, key);
    case DP_LPM: return dp_lpm_find_same(t, key, mask);
    case DP_TERNARY: return dp_ternary_find_same(t, key, mask, priority);
    }
    return DP_NONE;
}

void dp_table_settle(dp_table *t) {
    if (t->kind == DP_TERNARY) dp_ternary_settle(t);
}

uint64_t dp_table_memory(const dp_table *t) {
    uint64_t total = sizeof *t + (uint64_t)t->capacity * (t->stride + sizeof *t->cold + 2 * t->key_size) + dp_map_memory(&t->map) +
                     dp_map_memory(&t->group_map) + (uint64_t)t->group_capacity * (sizeof *t->groups + sizeof *t->order) +
                     (uint64_t)t->n_groups * t->n_words * 8 + t->key_size + t->data_size + (t->bits != NULL ? dp_bits_memory(t->bits) : 0);
    for (uint32_t i = 0; i < t->high_water; i++)
        if (t->cold[i].meter != NULL) total += sizeof *t->cold[i].meter;
    return total;
}

/* Whether a prefix mask of a field: ones, then zeros. */
static bool is_prefix(const uint8_t *mask, uint32_t size, uint8_t top) {
    bool ended = false;
    for (uint32_t i = 0; i < size; i++) {
        uint8_t full = i == 0 ? top : 0xff;
        uint8_t zeros = (uint8_t)(full & ~mask[i]);
        if (ended && zeros != full) return false;
        if ((zeros & (zeros + 1)) != 0) return false; /* the zeros of this byte are not all at its end */
        ended |= zeros != 0;
    }
    return true;
}

int dp_table_normalise(const dp_table *t, const uint8_t *key, const uint8_t *mask, int32_t priority, uint8_t *key_out,
                       uint8_t *mask_out) {
    if (t->key_size == 0 || key == NULL) return P4DP_EINVAL;
    if (t->kind != DP_TERNARY && priority != 0) return P4DP_EINVAL;
    memset(key_out, 0, t->key_size);
    memset(mask_out, 0, t->key_size);
    for (uint32_t k = 0; k < t->desc->n_keys; k++) {
        const p4prog_key_field *field = &t->desc->keys[k];
        uint32_t at = field->offset, size = dp_bytes(field->width);
        if (field->kind == P4PROG_SELECTOR || size == 0) continue;
        const uint8_t *full = t->full_mask + at;
        if ((key[at] & ~full[0]) != 0) return P4DP_EINVAL; /* the value has more bits than the field */
        if (field->kind == P4PROG_EXACT) {
            memcpy(key_out + at, key + at, size);
            memcpy(mask_out + at, full, size);
            for (uint32_t i = 0; mask != NULL && i < size; i++)
                if ((mask[at + i] & full[i]) != full[i]) return P4DP_EINVAL;
            continue;
        }
        if (mask == NULL) return P4DP_EINVAL;
        if (field->kind == P4PROG_RANGE) {
            if ((mask[at] & ~full[0]) != 0 || memcmp(key + at, mask + at, size) > 0) return P4DP_EINVAL;
            memcpy(key_out + at, key + at, size);
            memcpy(mask_out + at, mask + at, size);
            continue;
        }
        bool any = false, all = true;
        for (uint32_t i = 0; i < size; i++) {
            mask_out[at + i] = mask[at + i] & full[i];
            key_out[at + i] = key[at + i] & mask_out[at + i];
            any |= mask_out[at + i] != 0;
            all &= mask_out[at + i] == full[i];
        }
        if (field->kind == P4PROG_LPM && !is_prefix(mask_out + at, size, full[0])) return P4DP_EINVAL;
        if (field->kind == P4PROG_OPTIONAL && any && !all) return P4DP_EINVAL;
    }
    return 0;
}

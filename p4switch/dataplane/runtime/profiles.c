/* Action profiles and selectors: members, weighted groups, and the choice of a member by the hash of the selector fields. */
#include "internal.h"

#include <stdlib.h>

#define MAX_GROUP_WEIGHT 65536u

dp_profile *dp_profile_new(void) {
    dp_profile *profile = calloc(1, sizeof *profile);
    if (profile == NULL) return NULL;
    if (dp_map_init(&profile->member_map) && dp_map_init(&profile->group_map)) return profile;
    dp_profile_free(profile);
    return NULL;
}

static void free_group(dp_member_group *group) {
    free(group->members);
    free(group->choices);
    *group = (dp_member_group){0};
}

void dp_profile_free(dp_profile *profile) {
    for (uint32_t i = 0; i < profile->n_members; i++) free(profile->members[i].data);
    for (uint32_t i = 0; i < profile->n_groups; i++) free_group(&profile->groups[i]);
    dp_map_free(&profile->member_map);
    dp_map_free(&profile->group_map);
    free(profile->members);
    free(profile->groups);
    free(profile);
}

static uint32_t id_hash(uint32_t id) { return id * 0x9e3779b1u; }

static uint32_t member_slot(const dp_profile *profile, uint32_t id) {
    uint32_t hash = id_hash(id);
    for (uint32_t i = dp_map_first(&profile->member_map, hash), value; (value = dp_map_next(&profile->member_map, hash, &i)) != 0;)
        if (profile->members[value - 1].id == id) return value - 1;
    return DP_NONE;
}

static uint32_t group_slot(const dp_profile *profile, uint32_t id) {
    uint32_t hash = id_hash(id);
    for (uint32_t i = dp_map_first(&profile->group_map, hash), value; (value = dp_map_next(&profile->group_map, hash, &i)) != 0;)
        if (profile->groups[value - 1].id == id) return value - 1;
    return DP_NONE;
}

const dp_member *dp_profile_member(const dp_profile *profile, uint32_t id) {
    uint32_t slot = member_slot(profile, id);
    return slot == DP_NONE ? NULL : &profile->members[slot];
}

/* The selector fields as bmv2 hashes them: packed bit by bit, the last byte filled up with zeros. */
static uint32_t pack_selector(const dp_table *t, const uint8_t *key, uint8_t *packed) {
    uint32_t bits = 0;
    for (uint32_t k = 0; k < t->desc->n_keys; k++) {
        const p4prog_key_field *field = &t->desc->keys[k];
        if (field->kind != P4PROG_SELECTOR) continue;
        uint32_t storage = dp_bytes(field->width) * 8;
        for (uint32_t bit = storage - field->width; bit < storage; bit++, bits++) {
            if (bits % 8 == 0) packed[bits / 8] = 0;
            if (key[field->offset + bit / 8] >> (7 - bit % 8) & 1) packed[bits / 8] |= (uint8_t)(0x80 >> bits % 8);
        }
    }
    return (bits + 7) / 8;
}

const dp_member *dp_profile_select(p4prog_env *env, const dp_table *t, const dp_extern *e, uint32_t id, const uint8_t *key) {
    const dp_profile *profile = e->profile;
    uint32_t slot = group_slot(profile, id);
    if (slot == DP_NONE || profile->groups[slot].total_weight == 0) return NULL;
    uint8_t packed[DP_MAX_KEY_WORDS * 8];
    uint32_t length = pack_selector(t, key, packed);
    uint64_t hash = dp_hash(env, e->desc->algorithm, packed, length);
    if (e->desc->selector_width > 0 && e->desc->selector_width < 64) hash &= ((uint64_t)1 << e->desc->selector_width) - 1;
    const dp_member_group *group = &profile->groups[slot];
    return &profile->members[group->choices[hash % group->total_weight]];
}

bool dp_profile_refer(dp_profile *profile, p4dp_entry_kind kind, uint32_t id, int delta) {
    uint32_t slot = kind == P4DP_GROUP ? group_slot(profile, id) : member_slot(profile, id);
    if (slot == DP_NONE) return false;
    if (kind == P4DP_GROUP)
        profile->groups[slot].references += (uint32_t)delta;
    else
        profile->members[slot].references += (uint32_t)delta;
    return true;
}

static bool member_allowed(const dp_table *t, const dp_member *member) {
    for (uint32_t i = 0; i < t->desc->n_actions; i++)
        if (t->desc->actions[i] == member->action) return true;
    return false;
}

bool dp_profile_allowed(const dp_table *t, const dp_profile *profile, p4dp_entry_kind kind, uint32_t id) {
    if (kind == P4DP_MEMBER) {
        uint32_t slot = member_slot(profile, id);
        return slot != DP_NONE && member_allowed(t, &profile->members[slot]);
    }
    return group_slot(profile, id) != DP_NONE;
}

/* ------------------------------------------------------------------------------- called by the control side */

static dp_profile *enter_profile(p4dp_switch *sw, uint32_t index, int *result) {
    dp_gate_enter(&sw->gate);
    p4prog_env *env = sw->env;
    *result = env == NULL ? P4DP_ESTATE : P4DP_EINVAL;
    if (env == NULL || index >= env->program->n_externs || env->externs[index].profile == NULL) return NULL;
    *result = 0;
    return env->externs[index].profile;
}

/* An array of `count` items with room for one more, zeroed: it grows by doubling. NULL when out of memory. */
static void *with_room(void *array, uint32_t count, size_t item) {
    if ((count & (count - 1)) == 0) {
        array = realloc(array, (count == 0 ? 1 : (size_t)count * 2) * item);
        if (array == NULL) return NULL;
    }
    memset((uint8_t *)array + count * item, 0, item);
    return array;
}

static int add_member(dp_profile *profile, uint32_t id, uint32_t limit) {
    if (limit != 0 && profile->used_members >= limit) return P4DP_EFULL;
    uint32_t slot = profile->free_member;
    while (slot < profile->n_members && profile->members[slot].data != NULL) slot++;
    profile->free_member = slot;
    if (slot == profile->n_members) {
        dp_member *members = with_room(profile->members, profile->n_members, sizeof *members);
        if (members == NULL) return P4DP_ENOMEM;
        profile->members = members;
        profile->n_members++;
    }
    if (!dp_map_add(&profile->member_map, id_hash(id), slot + 1)) return P4DP_ENOMEM;
    profile->members[slot] = (dp_member){.id = id};
    profile->used_members++;
    return 0;
}

int p4dp_member_set(p4dp_switch *sw, uint32_t index, uint32_t member, uint32_t action, const uint8_t *data, int must_exist) {
    int result;
    dp_profile *profile = enter_profile(sw, index, &result);
    if (profile != NULL) {
        const p4prog_program *program = sw->env->program;
        uint32_t slot = member_slot(profile, member);
        uint8_t *copy = NULL;
        if (action >= program->n_actions || !dp_action_data_valid(&program->actions[action], data))
            result = P4DP_EINVAL;
        else if (slot == DP_NONE && must_exist)
            result = P4DP_ENOTFOUND;
        else if (slot != DP_NONE && !must_exist)
            result = P4DP_EEXISTS;
        else if ((copy = calloc(1, program->actions[action].data_size + 1u)) == NULL)
            result = P4DP_ENOMEM;
        else if (slot == DP_NONE)
            result = add_member(profile, member, (uint32_t)program->externs[index].size);
        if (result == 0) {
            slot = member_slot(profile, member);
            if (program->actions[action].data_size > 0) memcpy(copy, data, program->actions[action].data_size);
            free(profile->members[slot].data);
            profile->members[slot].data = copy;
            profile->members[slot].action = action;
        } else {
            free(copy);
        }
    }
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_member_delete(p4dp_switch *sw, uint32_t index, uint32_t member) {
    int result;
    dp_profile *profile = enter_profile(sw, index, &result);
    if (profile != NULL) {
        uint32_t slot = member_slot(profile, member);
        result = slot == DP_NONE ? P4DP_ENOTFOUND : profile->members[slot].references != 0 ? P4DP_EINUSE : 0;
        if (result == 0) {
            dp_map_remove(&profile->member_map, id_hash(member), slot + 1);
            free(profile->members[slot].data);
            profile->members[slot] = (dp_member){0};
            profile->used_members--;
            if (slot < profile->free_member) profile->free_member = slot;
        }
    }
    dp_gate_leave(&sw->gate);
    return result;
}

static void drop_group_members(dp_profile *profile, dp_member_group *group) {
    for (uint32_t i = 0; i < group->count; i++) profile->members[member_slot(profile, group->members[i])].references--;
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Fill the group in the order of the members' ids, so that which one a flow gets does not depend on the order in which they were
   listed. */
static bool fill_by_id(const dp_profile *profile, dp_member_group *made, const uint32_t *members, const uint32_t *weights) {
    uint64_t *pairs = malloc((made->count + 1) * sizeof *pairs);
    if (pairs == NULL) return false;
    for (uint32_t i = 0; i < made->count; i++) pairs[i] = (uint64_t)members[i] << 32 | weights[i];
    qsort(pairs, made->count, sizeof *pairs, compare);
    uint32_t at = 0;
    for (uint32_t i = 0; i < made->count; i++) {
        made->members[i] = (uint32_t)(pairs[i] >> 32);
        uint32_t slot = member_slot(profile, made->members[i]);
        for (uint32_t w = 0; w < (uint32_t)pairs[i]; w++) made->choices[at++] = slot;
    }
    free(pairs);
    return true;
}

/* The new content of a group in memory of its own, so that a failure leaves the old one as it was. */
static int build_group(const dp_profile *profile, dp_member_group *made, const uint32_t *members, const uint32_t *weights, uint32_t count) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (member_slot(profile, members[i]) == DP_NONE) return P4DP_ENOTFOUND;
        if (weights[i] == 0) return P4DP_EINVAL;
        total += weights[i];
    }
    if (total > MAX_GROUP_WEIGHT) return P4DP_EINVAL;
    *made = (dp_member_group){.count = count, .total_weight = (uint32_t)total};
    made->members = malloc((count + 1) * sizeof *members);
    made->choices = malloc((total + 1) * sizeof *made->choices);
    if (made->members == NULL || made->choices == NULL || !fill_by_id(profile, made, members, weights)) {
        free_group(made);
        return P4DP_ENOMEM;
    }
    return 0;
}

int p4dp_group_set(p4dp_switch *sw, uint32_t index, uint32_t group, const uint32_t *members, const uint32_t *weights, uint32_t count,
                   int must_exist) {
    int result;
    dp_profile *profile = enter_profile(sw, index, &result);
    dp_member_group made = {0};
    if (profile != NULL) {
        uint32_t slot = group_slot(profile, group);
        if (slot == DP_NONE && must_exist)
            result = P4DP_ENOTFOUND;
        else if (slot != DP_NONE && !must_exist)
            result = P4DP_EEXISTS;
        else
            result = build_group(profile, &made, members, weights, count);
        if (result == 0 && slot == DP_NONE) {
            slot = profile->free_group;
            while (slot < profile->n_groups && profile->groups[slot].members != NULL) slot++;
            profile->free_group = slot;
            if (slot == profile->n_groups) {
                dp_member_group *groups = with_room(profile->groups, profile->n_groups, sizeof *groups);
                if (groups == NULL) result = P4DP_ENOMEM;
                else profile->groups = groups;
                profile->n_groups += groups != NULL;
            }
            if (result == 0 && !dp_map_add(&profile->group_map, id_hash(group), slot + 1)) result = P4DP_ENOMEM;
        }
        if (result == 0) {
            dp_member_group *to = &profile->groups[slot];
            for (uint32_t i = 0; i < count; i++) profile->members[member_slot(profile, members[i])].references++;
            drop_group_members(profile, to);
            made.id = group;
            made.references = to->references;
            free_group(to);
            *to = made;
        } else {
            free_group(&made);
        }
    }
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_group_delete(p4dp_switch *sw, uint32_t index, uint32_t group) {
    int result;
    dp_profile *profile = enter_profile(sw, index, &result);
    if (profile != NULL) {
        uint32_t slot = group_slot(profile, group);
        result = slot == DP_NONE ? P4DP_ENOTFOUND : profile->groups[slot].references != 0 ? P4DP_EINUSE : 0;
        if (result == 0) {
            dp_map_remove(&profile->group_map, id_hash(group), slot + 1);
            drop_group_members(profile, &profile->groups[slot]);
            free_group(&profile->groups[slot]);
            if (slot < profile->free_group) profile->free_group = slot;
        }
    }
    dp_gate_leave(&sw->gate);
    return result;
}

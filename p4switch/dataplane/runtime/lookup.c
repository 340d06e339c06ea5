/* Table lookups as programs call them: find the entry, count the hit, resolve what it names. */
#include "internal.h"

static NOINLINE p4prog_match resolve_profile(p4prog_env *env, const dp_table *t, p4dp_entry_kind kind, uint32_t id, const uint8_t *key,
                                             bool hit) {
    const dp_extern *profile = &env->externs[t->desc->implementation];
    const dp_member *member = kind == P4DP_GROUP ? dp_profile_select(env, t, profile, id, key) : dp_profile_member(profile->profile, id);
    if (member != NULL) {
        env->chosen = member->id;
        return (p4prog_match){member->data, member->action, hit};
    }
    env->chosen = DP_NONE;
    /* An empty group: a hit that does nothing, as with bmv2 and PSA's default for it. */
    return (p4prog_match){t->default_data, P4PROG_NO_ACTION, hit};
}

/* Each hit executes the entry's meter, whether or not the program reads the colour, and once however often it does. */
static NOINLINE void meter_hit(p4prog_env *env, dp_table *t, uint32_t index) {
    dp_meter *meter = index != DP_NONE ? t->cold[index].meter : NULL;
    bool packets = env->externs[t->desc->meter].desc->unit == P4PROG_PACKETS;
    t->metered_pass = env->pass;
    t->colour = meter != NULL ? dp_meter_execute(meter, packets ? 1 : env->packet_length, env->now_us) : 0;
}

p4prog_match p4prog_lookup(p4prog_env *env, uint32_t table, const uint8_t *key, uint32_t packet_length) {
    dp_table *t = &env->tables[table];
    uint32_t index = t->n_entries != 0 ? t->find(t, key) : DP_NONE;
    p4prog_match match;
    if (index != DP_NONE) {
        dp_entry *e = dp_table_entry(t, index);
        e->packets++;
        e->bytes += packet_length;
        match = (p4prog_match){dp_entry_data(t, e), e->action, true};
        if (UNLIKELY(t->has_idle)) t->cold[index].last_hit_ns = env->now_ns;
        if (UNLIKELY(e->kind != P4DP_ACTION)) match = resolve_profile(env, t, e->kind, e->action, key, true);
    } else {
        match = (p4prog_match){t->default_data, t->default_action, false};
        if (UNLIKELY(t->default_kind != P4DP_ACTION)) match = resolve_profile(env, t, t->default_kind, t->default_action, key, false);
    }
    if (UNLIKELY(t->desc->meter >= 0)) meter_hit(env, t, index);
    if (UNLIKELY(env->tracing)) dp_trace_lookup(env, t, key, index, &match);
    return match;
}

uint32_t p4prog_direct_meter(p4prog_env *env, uint32_t table) {
    const dp_table *t = &env->tables[table];
    return t->metered_pass == env->pass ? t->colour : 0;
}

bool p4prog_value_set_contains(p4prog_env *env, uint32_t value_set, const uint8_t *key) {
    const dp_value_set *set = &env->value_sets[value_set];
    uint32_t size = set->desc->key_size;
    for (uint32_t m = 0; m < set->count; m++) {
        const uint8_t *value = set->keys + (size_t)m * size, *mask = set->masks + (size_t)m * size;
        bool matches = true;
        for (uint32_t k = 0; k < set->desc->n_keys && matches; k++) {
            const p4prog_key_field *field = &set->desc->keys[k];
            uint32_t at = field->offset, bytes = dp_bytes(field->width);
            if (field->kind == P4PROG_RANGE)
                matches = memcmp(key + at, value + at, bytes) >= 0 && memcmp(key + at, mask + at, bytes) <= 0;
            else
                for (uint32_t i = at; i < at + bytes; i++) matches &= ((key[i] ^ value[i]) & mask[i]) == 0;
        }
        if (matches) return true;
    }
    return false;
}

/* Reading tables from the control side: iteration, lookup by key, defaults, direct counters and meters, idle timeouts. */
#include "internal.h"

#include <stdlib.h>

static dp_table *table_of(p4dp_switch *sw, uint32_t table) {
    return sw->env != NULL && table < sw->env->program->n_tables ? &sw->env->tables[table] : NULL;
}

static void view_entry(p4prog_env *env, const dp_table *t, uint32_t index, p4dp_entry_view *view) {
    dp_entry *e = dp_table_entry(t, index);
    const dp_cold *cold = &t->cold[index];
    uint64_t now = dp_now_ns(env->sw);
    *view = (p4dp_entry_view){
        .handle = cold->handle,
        .cookie = cold->cookie,
        .key = dp_table_key(t, index),
        .mask = dp_table_mask(t, index),
        .data = dp_entry_data(t, e),
        .priority = e->priority,
        .kind = e->kind,
        .action = e->action,
        .is_const = cold->is_const,
        .packets = t->counts ? e->packets : 0,
        .bytes = t->counts ? e->bytes : 0,
        .idle_timeout_ns = cold->idle_timeout_ns,
        .since_hit_ns = t->has_idle && now > cold->last_hit_ns ? now - cold->last_hit_ns : 0,
    };
}

int p4dp_entry_next(p4dp_switch *sw, uint32_t table, uint64_t after_handle, p4dp_entry_view *view) {
    int result = P4DP_ENOTFOUND;
    dp_gate_enter(&sw->gate);
    dp_table *t = table_of(sw, table);
    if (t == NULL) {
        result = P4DP_EINVAL;
    } else {
        for (uint32_t index = (uint32_t)after_handle; index < t->high_water && result != 0; index++)
            if (dp_table_entry(t, index)->in_use) {
                view_entry(sw->env, t, index, view);
                result = 0;
            }
    }
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_entry_find(p4dp_switch *sw, const p4dp_update *which, p4dp_entry_view *view) {
    dp_gate_enter(&sw->gate);
    dp_table *t = table_of(sw, which->table);
    uint8_t key[DP_MAX_KEY_WORDS * 8], mask[DP_MAX_KEY_WORDS * 8];
    int result = t == NULL ? P4DP_EINVAL : dp_table_normalise(t, which->key, which->mask, which->priority, key, mask);
    if (result == 0) {
        uint32_t index = dp_table_find_same(t, key, mask, which->priority);
        if (index == DP_NONE)
            result = P4DP_ENOTFOUND;
        else
            view_entry(sw->env, t, index, view);
    }
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_default_get(p4dp_switch *sw, uint32_t table, p4dp_entry_view *view) {
    dp_gate_enter(&sw->gate);
    dp_table *t = table_of(sw, table);
    if (t != NULL)
        *view = (p4dp_entry_view){.cookie = t->default_cookie,
                                  .data = t->default_data,
                                  .kind = t->default_kind,
                                  .action = t->default_action,
                                  .is_const = t->desc->const_default};
    dp_gate_leave(&sw->gate);
    return t == NULL ? P4DP_EINVAL : 0;
}

uint64_t p4dp_entry_count(p4dp_switch *sw, uint32_t table) {
    dp_gate_enter(&sw->gate);
    dp_table *t = table_of(sw, table);
    uint64_t count = t == NULL ? 0 : t->n_entries;
    dp_gate_leave(&sw->gate);
    return count;
}

uint64_t p4dp_table_bytes(p4dp_switch *sw, uint32_t table) {
    dp_gate_enter(&sw->gate);
    dp_table *t = table_of(sw, table);
    uint64_t bytes = t == NULL ? 0 : dp_table_memory(t);
    dp_gate_leave(&sw->gate);
    return bytes;
}

int p4dp_direct_counter_set(p4dp_switch *sw, uint32_t table, uint64_t handle, uint64_t packets, uint64_t bytes) {
    dp_gate_enter(&sw->gate);
    dp_table *t = table_of(sw, table);
    uint32_t index = t == NULL ? DP_NONE : dp_table_by_handle(t, handle);
    int result = t == NULL || !t->counts ? P4DP_EINVAL : index == DP_NONE ? P4DP_ENOTFOUND : 0;
    if (result == 0) {
        dp_table_entry(t, index)->packets = packets;
        dp_table_entry(t, index)->bytes = bytes;
    }
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_direct_meter_get(p4dp_switch *sw, uint32_t table, uint64_t handle, p4dp_meter_config *config) {
    dp_gate_enter(&sw->gate);
    dp_table *t = table_of(sw, table);
    uint32_t index = t == NULL ? DP_NONE : dp_table_by_handle(t, handle);
    int result = t == NULL || t->desc->meter < 0 ? P4DP_EINVAL : index == DP_NONE ? P4DP_ENOTFOUND : 0;
    if (result == 0) *config = t->cold[index].meter != NULL ? t->cold[index].meter->config : (p4dp_meter_config){0};
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_direct_meter_set(p4dp_switch *sw, uint32_t table, uint64_t handle, const p4dp_meter_config *config) {
    dp_gate_enter(&sw->gate);
    dp_table *t = table_of(sw, table);
    uint32_t index = t == NULL ? DP_NONE : dp_table_by_handle(t, handle);
    int result = t == NULL || t->desc->meter < 0 ? P4DP_EINVAL : index == DP_NONE ? P4DP_ENOTFOUND : 0;
    if (result == 0) {
        dp_cold *cold = &t->cold[index];
        if (cold->meter == NULL) cold->meter = calloc(1, sizeof *cold->meter);
        if (cold->meter == NULL)
            result = P4DP_ENOMEM;
        else if (!dp_meter_configure(cold->meter, config, dp_now_ns(sw) / 1000))
            result = P4DP_EINVAL;
    }
    dp_gate_leave(&sw->gate);
    return result;
}

/* Report entries that have not been hit for their timeout, and again after each further timeout. */
void dp_entries_sweep_idle(p4dp_switch *sw) {
    p4prog_env *env = sw->env;
    uint64_t now = dp_now_ns(sw);
    if (env == NULL) return;
    for (uint32_t k = 0; k < env->program->n_tables; k++) {
        dp_table *t = &env->tables[k];
        if (!t->has_idle) continue;
        for (uint32_t i = 0; i < t->high_water; i++) {
            dp_cold *cold = &t->cold[i];
            if (!dp_table_entry(t, i)->in_use || cold->idle_timeout_ns == 0) continue;
            uint64_t since = cold->last_hit_ns > cold->idle_notified_ns ? cold->last_hit_ns : cold->idle_notified_ns;
            if (now < since || now - since < cold->idle_timeout_ns) continue;
            cold->idle_notified_ns = now;
            p4dp_event event = {.kind = P4DP_EVENT_IDLE_TIMEOUT, .index = k, .cookie = cold->cookie, .handle = cold->handle,
                                .timestamp_ns = dp_realtime_ns()};
            dp_event_push(&sw->events, &event, NULL, 0, NULL, 0);
        }
    }
}

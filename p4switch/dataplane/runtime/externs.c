/* Counters, meters and registers: storage, what programs call, what the control side calls. Value sets too. */
#include "internal.h"

#include <stdlib.h>

bool dp_extern_init(dp_extern *e, const p4prog_extern *desc) {
    *e = (dp_extern){.desc = desc, .size = desc->size};
    if (desc->size > (uint64_t)1 << 32) return false;
    size_t cells = desc->size == 0 ? 1 : (size_t)desc->size;
    switch (desc->kind) {
    case P4PROG_COUNTER: return (e->counters = calloc(cells, sizeof *e->counters)) != NULL;
    case P4PROG_METER: return (e->meters = calloc(cells, sizeof *e->meters)) != NULL;
    case P4PROG_REGISTER:
        e->cell_bytes = dp_bytes(desc->width);
        return (e->cells = calloc(cells, e->cell_bytes + (e->cell_bytes == 0))) != NULL;
    case P4PROG_ACTION_PROFILE:
    case P4PROG_ACTION_SELECTOR: return (e->profile = dp_profile_new()) != NULL;
    case P4PROG_DIRECT_COUNTER:
    case P4PROG_DIRECT_METER: return true; /* in the entries */
    }
    return false;
}

void dp_extern_free(dp_extern *e) {
    free(e->counters);
    free(e->meters);
    free(e->cells);
    if (e->profile != NULL) dp_profile_free(e->profile);
}

/* ------------------------------------------------------------------------------------------------- meters */

bool dp_meter_configure(dp_meter *meter, const p4dp_meter_config *config, uint64_t now_us) {
    if (config->configured && config->cir > config->pir) return false;
    *meter = (dp_meter){.config = *config, .started_us = now_us, .tokens = {config->cburst, config->pburst}};
    meter->config.configured = config->configured != 0;
    return true;
}

/* Tokens are granted in proportion to the time since the configuration, so that no rounding error accumulates. Peak first: a
   packet above the peak rate is red and takes nothing from the committed bucket; one above the committed rate only is yellow. */
uint32_t dp_meter_execute(dp_meter *meter, uint64_t units, uint64_t now_us) {
    if (!meter->config.configured) return 0;
    uint64_t elapsed = now_us > meter->started_us ? now_us - meter->started_us : 0;
    uint64_t rates[2] = {meter->config.cir, meter->config.pir};
    uint64_t bursts[2] = {meter->config.cburst, meter->config.pburst};
    for (int i = 1; i >= 0; i--) {
        uint64_t granted = (uint64_t)((unsigned __int128)elapsed * rates[i] / 1000000);
        uint64_t fresh = granted > meter->granted[i] ? granted - meter->granted[i] : 0;
        meter->granted[i] += fresh;
        meter->tokens[i] = fresh > bursts[i] - meter->tokens[i] ? bursts[i] : meter->tokens[i] + fresh;
        if (meter->tokens[i] < units) return (uint32_t)i + 1;
        meter->tokens[i] -= units;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------- called by programs */

void p4prog_count(p4prog_env *env, uint32_t index, uint64_t cell, uint32_t packet_length) {
    dp_extern *e = &env->externs[index];
    if (UNLIKELY(cell >= e->size)) return;
    e->counters[cell].packets++;
    e->counters[cell].bytes += packet_length;
}

uint32_t p4prog_meter(p4prog_env *env, uint32_t index, uint64_t cell, uint32_t packet_length) {
    dp_extern *e = &env->externs[index];
    if (UNLIKELY(cell >= e->size)) return 0;
    return dp_meter_execute(&e->meters[cell], e->desc->unit == P4PROG_PACKETS ? 1 : packet_length, env->now_us);
}

void p4prog_register_read(p4prog_env *env, uint32_t index, uint64_t cell, uint8_t *value) {
    const dp_extern *e = &env->externs[index];
    if (LIKELY(cell < e->size)) memcpy(value, e->cells + cell * e->cell_bytes, e->cell_bytes);
}

void p4prog_register_write(p4prog_env *env, uint32_t index, uint64_t cell, const uint8_t *value) {
    dp_extern *e = &env->externs[index];
    if (LIKELY(cell < e->size)) memcpy(e->cells + cell * e->cell_bytes, value, e->cell_bytes);
}

void p4prog_digest_send(p4prog_env *env, uint32_t digest, const uint8_t *message) {
    env->digest_pending = true;
    env->digest = digest;
    memcpy(env->digest_data, message, env->program->digests[digest].size);
}

/* ------------------------------------------------------------------------------- called by the control side */

/* Enter the gate and find a cell of an extern of this kind; *result says why not. */
static dp_extern *enter_extern(p4dp_switch *sw, uint32_t index, p4prog_extern_kind kind, uint64_t cell, int *result) {
    dp_gate_enter(&sw->gate);
    p4prog_env *env = sw->env;
    *result = env == NULL ? P4DP_ESTATE : P4DP_EINVAL;
    if (env == NULL || index >= env->program->n_externs) return NULL;
    dp_extern *e = &env->externs[index];
    if (e->desc->kind != kind || cell >= e->size) return NULL;
    *result = 0;
    return e;
}

int p4dp_counter_read(p4dp_switch *sw, uint32_t index, uint64_t cell, uint64_t *packets, uint64_t *bytes) {
    int result;
    const dp_extern *e = enter_extern(sw, index, P4PROG_COUNTER, cell, &result);
    if (e != NULL) {
        *packets = e->counters[cell].packets;
        *bytes = e->counters[cell].bytes;
    }
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_counter_write(p4dp_switch *sw, uint32_t index, uint64_t cell, uint64_t packets, uint64_t bytes) {
    int result;
    dp_extern *e = enter_extern(sw, index, P4PROG_COUNTER, cell, &result);
    if (e != NULL) e->counters[cell] = (dp_counter){packets, bytes};
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_meter_get(p4dp_switch *sw, uint32_t index, uint64_t cell, p4dp_meter_config *config) {
    int result;
    const dp_extern *e = enter_extern(sw, index, P4PROG_METER, cell, &result);
    if (e != NULL) *config = e->meters[cell].config;
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_meter_set(p4dp_switch *sw, uint32_t index, uint64_t cell, const p4dp_meter_config *config) {
    int result;
    dp_extern *e = enter_extern(sw, index, P4PROG_METER, cell, &result);
    if (e != NULL && !dp_meter_configure(&e->meters[cell], config, dp_now_ns(sw) / 1000)) result = P4DP_EINVAL;
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_register_read(p4dp_switch *sw, uint32_t index, uint64_t cell, uint8_t *value) {
    int result;
    const dp_extern *e = enter_extern(sw, index, P4PROG_REGISTER, cell, &result);
    if (e != NULL) memcpy(value, e->cells + cell * e->cell_bytes, e->cell_bytes);
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_register_write(p4dp_switch *sw, uint32_t index, uint64_t cell, const uint8_t *value) {
    int result;
    dp_extern *e = enter_extern(sw, index, P4PROG_REGISTER, cell, &result);
    if (e != NULL && e->desc->width % 8 != 0 && value[0] >> e->desc->width % 8 != 0)
        result = P4DP_EINVAL;
    else if (e != NULL)
        memcpy(e->cells + cell * e->cell_bytes, value, e->cell_bytes);
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_value_set_write(p4dp_switch *sw, uint32_t index, const uint8_t *keys, const uint8_t *masks, uint32_t count) {
    dp_gate_enter(&sw->gate);
    int result = sw->env == NULL ? P4DP_ESTATE : index >= sw->env->program->n_value_sets ? P4DP_EINVAL : 0;
    if (result == 0) {
        dp_value_set *set = &sw->env->value_sets[index];
        size_t size = (size_t)count * set->desc->key_size;
        uint8_t *copy = malloc(2 * size + 1);
        if (count > set->desc->size)
            result = P4DP_EFULL;
        else if (copy == NULL)
            result = P4DP_ENOMEM;
        if (result != 0) {
            free(copy);
        } else {
            free(set->keys);
            set->keys = copy;
            set->masks = copy + size;
            set->count = count;
            if (size > 0) {
                memcpy(set->keys, keys, size);
                memcpy(set->masks, masks, size);
            }
        }
    }
    dp_gate_leave(&sw->gate);
    return result;
}

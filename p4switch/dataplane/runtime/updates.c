/* Changes of tables: one update, a batch of them, and undoing a batch that fails half way. Also reading entries. */
#include "internal.h"

#include <stdlib.h>

#define TOGETHER 4096u /* updates between two batches of packets: about 2 ms, a fifth of what the receive rings bridge */

/* What is needed to take an update back. Deleted entries keep their place until the batch is settled, so that undoing a deletion
   restores the handle, the counters and the meter as well. */
typedef struct dp_undo_record {
    p4dp_op op;
    uint32_t table, entry, action;
    uint8_t kind;
    uint64_t cookie, idle_timeout_ns;
    uint8_t *data;
} undo_record;

static dp_profile *profile_of(p4prog_env *env, const dp_table *t) {
    return t->desc->implementation >= 0 ? env->externs[t->desc->implementation].profile : NULL;
}

static bool action_allowed(const dp_table *t, uint32_t action) {
    for (uint32_t i = 0; i < t->desc->n_actions; i++)
        if (t->desc->actions[i] == action) return true;
    return false;
}

bool dp_action_data_valid(const p4prog_action *action, const uint8_t *data) {
    if (action->data_size > 0 && data == NULL) return false;
    for (uint32_t i = 0; i < action->n_params; i++) {
        const p4prog_param *param = &action->params[i];
        if (param->width % 8 != 0 && data[param->offset] >> param->width % 8 != 0) return false;
    }
    return true;
}

static int check_action(p4prog_env *env, const dp_table *t, const p4dp_update *u) {
    dp_profile *profile = profile_of(env, t);
    if (profile != NULL) {
        if (u->kind == P4DP_ACTION) return P4DP_EINVAL;
        return dp_profile_allowed(t, profile, u->kind, u->action) ? 0 : P4DP_ENOTFOUND;
    }
    if (u->kind != P4DP_ACTION || !action_allowed(t, u->action)) return P4DP_EINVAL;
    return dp_action_data_valid(&env->program->actions[u->action], u->data) ? 0 : P4DP_EINVAL;
}

static uint32_t data_size(p4prog_env *env, p4dp_entry_kind kind, uint32_t action) {
    return kind == P4DP_ACTION ? env->program->actions[action].data_size : 0;
}

static void refer(p4prog_env *env, const dp_table *t, p4dp_entry_kind kind, uint32_t id, int delta) {
    if (kind != P4DP_ACTION) dp_profile_refer(profile_of(env, t), kind, id, delta);
}

static void set_entry_action(p4prog_env *env, dp_table *t, uint32_t index, const p4dp_update *u) {
    dp_entry *e = dp_table_entry(t, index);
    e->kind = (uint8_t)u->kind;
    e->action = u->action;
    uint32_t size = data_size(env, u->kind, u->action);
    memset(dp_entry_data(t, e), 0, t->data_size);
    if (size > 0) memcpy(dp_entry_data(t, e), u->data, size);
    t->cold[index].cookie = u->cookie;
    t->cold[index].idle_timeout_ns = u->idle_timeout_ns;
    t->cold[index].last_hit_ns = dp_now_ns(env->sw);
    t->cold[index].idle_notified_ns = 0;
}

static int insert_entry(p4prog_env *env, dp_table *t, p4dp_update *u, const uint8_t *key, const uint8_t *mask, bool is_const,
                        undo_record *undo) {
    if (dp_table_find_same(t, key, mask, u->priority) != DP_NONE) return P4DP_EEXISTS;
    if (t->n_entries >= t->desc->size) return P4DP_EFULL;
    uint32_t index = dp_table_allocate(t);
    if (index == DP_NONE) return P4DP_ENOMEM;
    memcpy(dp_table_key(t, index), key, t->key_size);
    memcpy(dp_table_mask(t, index), mask, t->key_size);
    dp_table_entry(t, index)->priority = u->priority;
    t->cold[index].is_const = is_const;
    int result = dp_table_link(t, index);
    if (result != 0) {
        dp_table_release(t, index);
        return result;
    }
    set_entry_action(env, t, index, u);
    refer(env, t, u->kind, u->action, 1);
    u->handle = t->cold[index].handle;
    if (undo != NULL) undo->entry = index;
    return 0;
}

static int save_action(undo_record *undo, const uint8_t *data, uint32_t size) {
    undo->data = malloc(size + 1u);
    if (undo->data == NULL) return P4DP_ENOMEM;
    memcpy(undo->data, data, size);
    return 0;
}

static int change_default(p4prog_env *env, dp_table *t, const p4dp_update *u, undo_record *undo) {
    const p4prog_table *desc = t->desc;
    p4dp_update reset = {.kind = P4DP_ACTION, .action = desc->default_action, .data = desc->default_data};
    const p4dp_update *to = u->op == P4DP_RESET_DEFAULT ? &reset : u;
    if (desc->const_default) return P4DP_ECONST;
    if (u->op == P4DP_SET_DEFAULT) {
        int result = check_action(env, t, u);
        if (result != 0) return result;
    }
    if (undo != NULL) {
        int result = save_action(undo, t->default_data, t->data_size);
        if (result != 0) return result;
        undo->kind = (uint8_t)t->default_kind;
        undo->action = t->default_action;
        undo->cookie = t->default_cookie;
    }
    refer(env, t, to->kind, to->action, 1);
    refer(env, t, t->default_kind, t->default_action, -1);
    t->default_kind = to->kind;
    t->default_action = to->action;
    t->default_cookie = to->cookie;
    uint32_t size = data_size(env, to->kind, to->action);
    memset(t->default_data, 0, t->data_size);
    if (size > 0) memcpy(t->default_data, to->data, size);
    return 0;
}

static int apply_one(p4prog_env *env, p4dp_update *u, undo_record *undo) {
    if (undo != NULL) *undo = (undo_record){.op = u->op, .table = u->table, .entry = DP_NONE};
    if (u->table >= env->program->n_tables) return P4DP_EINVAL;
    dp_table *t = &env->tables[u->table];
    if (u->op == P4DP_SET_DEFAULT || u->op == P4DP_RESET_DEFAULT) return change_default(env, t, u, undo);
    if (u->op != P4DP_INSERT && u->op != P4DP_MODIFY && u->op != P4DP_DELETE) return P4DP_EINVAL;
    if (t->desc->const_entries) return P4DP_ECONST;

    uint8_t key[DP_MAX_KEY_WORDS * 8], mask[DP_MAX_KEY_WORDS * 8];
    int result = dp_table_normalise(t, u->key, u->mask, u->priority, key, mask);
    if (result != 0) return result;
    if (u->op != P4DP_DELETE) {
        if (u->idle_timeout_ns != 0 && !t->has_idle) return P4DP_EINVAL;
        result = check_action(env, t, u);
        if (result != 0) return result;
    }
    if (u->op == P4DP_INSERT) return insert_entry(env, t, u, key, mask, false, undo);

    uint32_t index = dp_table_find_same(t, key, mask, u->priority);
    if (index == DP_NONE) return P4DP_ENOTFOUND;
    if (t->cold[index].is_const) return P4DP_ECONST;
    dp_entry *e = dp_table_entry(t, index);
    if (u->op == P4DP_MODIFY) {
        if (undo != NULL) {
            result = save_action(undo, dp_entry_data(t, e), t->data_size);
            if (result != 0) return result;
            undo->entry = index;
            undo->kind = e->kind;
            undo->action = e->action;
            undo->cookie = t->cold[index].cookie;
            undo->idle_timeout_ns = t->cold[index].idle_timeout_ns;
        }
        refer(env, t, u->kind, u->action, 1);
        refer(env, t, e->kind, e->action, -1);
        set_entry_action(env, t, index, u);
        u->handle = t->cold[index].handle;
        return 0;
    }
    refer(env, t, e->kind, e->action, -1);
    u->handle = t->cold[index].handle;
    dp_table_unlink(t, index);
    if (undo != NULL)
        undo->entry = index;
    else
        dp_table_release(t, index);
    return 0;
}

static void undo_one(p4prog_env *env, undo_record *undo) {
    dp_table *t = &env->tables[undo->table];
    switch (undo->op) {
    case P4DP_INSERT: {
        dp_entry *e = dp_table_entry(t, undo->entry);
        refer(env, t, e->kind, e->action, -1);
        dp_table_unlink(t, undo->entry);
        dp_table_release(t, undo->entry);
        break;
    }
    case P4DP_MODIFY: {
        dp_entry *e = dp_table_entry(t, undo->entry);
        refer(env, t, undo->kind, undo->action, 1);
        refer(env, t, e->kind, e->action, -1);
        e->kind = undo->kind;
        e->action = undo->action;
        memcpy(dp_entry_data(t, e), undo->data, t->data_size);
        t->cold[undo->entry].cookie = undo->cookie;
        t->cold[undo->entry].idle_timeout_ns = undo->idle_timeout_ns;
        break;
    }
    case P4DP_DELETE: {
        /* Needs no memory: the maps never shrink, and groups of masks keep theirs. */
        dp_entry *e = dp_table_entry(t, undo->entry);
        if (dp_table_link(t, undo->entry) != 0) abort();
        refer(env, t, e->kind, e->action, 1);
        break;
    }
    case P4DP_SET_DEFAULT:
    case P4DP_RESET_DEFAULT:
        refer(env, t, undo->kind, undo->action, 1);
        refer(env, t, t->default_kind, t->default_action, -1);
        t->default_kind = undo->kind;
        t->default_action = undo->action;
        t->default_cookie = undo->cookie;
        memcpy(t->default_data, undo->data, t->data_size);
        break;
    }
}

/* Take back everything after the first `mark` records. */
static void undo_to(p4prog_env *env, dp_undo_log *log, uint32_t mark) {
    while (log->count > mark) {
        undo_record *undo = &log->records[--log->count];
        undo_one(env, undo);
        free(undo->data);
    }
}

/* Nothing will be taken back any more: only now do deleted entries give up their place. */
static void forget_undo(p4prog_env *env, dp_undo_log *log) {
    for (uint32_t i = 0; i < log->count; i++) {
        undo_record *undo = &log->records[i];
        if (undo->op == P4DP_DELETE) dp_table_release(&env->tables[undo->table], undo->entry);
        free(undo->data);
    }
    log->count = 0;
}

static bool reserve_undo(dp_undo_log *log, uint32_t more) {
    if (more <= log->capacity - log->count) return true;
    uint64_t capacity = (uint64_t)log->count + more;
    undo_record *records = capacity > UINT32_MAX / 2 ? NULL : realloc(log->records, 2 * capacity * sizeof *records);
    if (records == NULL) return false;
    log->records = records;
    log->capacity = (uint32_t)(2 * capacity);
    return true;
}

static void settle_tables(p4prog_env *env) {
    for (uint32_t k = 0; k < env->program->n_tables; k++) dp_table_settle(&env->tables[k]);
}

/* Between two batches of packets, in the gate; returns the number that failed. `env` NULL: all of them. */
static uint32_t apply_together(p4dp_switch *sw, p4prog_env *env, p4dp_update *updates, uint32_t count, bool all_or_none) {
    uint32_t failed = 0, i = 0;
    dp_undo_log *log = all_or_none || sw->undo.open ? &sw->undo : NULL;
    uint32_t mark = sw->undo.count;
    int refusal = env == NULL ? P4DP_ESTATE : log != NULL && !reserve_undo(log, count) ? P4DP_ENOMEM : 0;
    for (; i < count && !(failed > 0 && all_or_none); i++) {
        undo_record *undo = log != NULL && refusal == 0 ? &log->records[log->count] : NULL;
        updates[i].result = refusal != 0 ? refusal : apply_one(env, &updates[i], undo);
        if (updates[i].result != 0) {
            failed++;
            if (undo != NULL) free(undo->data);
        } else if (undo != NULL) {
            log->count++;
        }
    }
    for (; i < count; i++, failed++) updates[i].result = P4DP_ESTATE;
    if (env != NULL) {
        if (all_or_none && failed > 0) undo_to(env, log, mark);
        if (log != NULL && !log->open) forget_undo(env, log);
        settle_tables(env);
    }
    return failed;
}

int p4dp_apply(p4dp_switch *sw, p4dp_update *updates, uint32_t count, int all_or_none) {
    uint32_t failed = 0, done = 0;
    uint64_t loads = 0;
    do {
        uint32_t some = all_or_none || count - done < TOGETHER ? count - done : TOGETHER;
        dp_gate_enter(&sw->gate);
        if (done == 0) loads = sw->loads;
        failed += apply_together(sw, sw->loads == loads ? sw->env : NULL, updates + done, some, all_or_none != 0);
        dp_gate_leave(&sw->gate);
        done += some;
    } while (done < count);
    return (int)failed;
}

int p4dp_begin(p4dp_switch *sw) {
    dp_gate_hold(&sw->gate);
    int result = sw->env == NULL || sw->undo.open ? P4DP_ESTATE : 0;
    if (result == 0)
        sw->undo.open = true;
    else if (!sw->undo.open)
        dp_gate_release(&sw->gate);
    return result;
}

uint32_t p4dp_mark(const p4dp_switch *sw) { return sw->undo.count; }

int p4dp_undo(p4dp_switch *sw, uint32_t mark) {
    if (!sw->undo.open) return P4DP_ESTATE;
    undo_to(sw->env, &sw->undo, mark);
    return 0;
}

int p4dp_end(p4dp_switch *sw) {
    if (!sw->undo.open) return P4DP_ESTATE;
    forget_undo(sw->env, &sw->undo);
    settle_tables(sw->env);
    sw->undo.open = false;
    dp_gate_release(&sw->gate);
    return 0;
}

int dp_updates_load_entries(p4prog_env *env, dp_table *t) {
    uint8_t key[DP_MAX_KEY_WORDS * 8], mask[DP_MAX_KEY_WORDS * 8];
    for (uint32_t i = 0; i < t->desc->n_entries; i++) {
        const p4prog_entry *entry = &t->desc->entries[i];
        int32_t priority = t->kind == DP_TERNARY ? entry->priority : 0;
        p4dp_update u = {.op = P4DP_INSERT, .table = t->index, .priority = priority, .action = entry->action, .data = entry->data};
        int result = dp_table_normalise(t, entry->key, entry->mask, priority, key, mask);
        if (result == 0) result = check_action(env, t, &u);
        if (result == 0) result = insert_entry(env, t, &u, key, mask, entry->is_const, NULL);
        if (result != 0) return result;
    }
    dp_table_settle(t);
    return 0;
}

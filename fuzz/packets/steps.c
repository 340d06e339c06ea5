/* What each kind of step does. Numbers from the input are brought into the range that means something most of the time: tables and
 * actions that exist, ids that come back, keys that packets have looked up. The rest of the time they are taken as they are.
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#define MAX_UPDATES 32u
#define MAX_TABLES 64u /* more are not watched */
#define MAX_REPLICAS 8u
#define FEW 6u /* ids of groups, sessions and members: few, so that steps meet */
#define LARGEST_FRAME 9300u /* more than the runtime takes */
#define PICK(count) ((count) == 0 ? 0 : take8(in) % (count))

/* Exactly as large as it has to be, so that reading on behind the end is seen. */
static uint8_t *exact(size_t size) {
    uint8_t *memory = calloc(1, size + (size == 0));
    if (memory == NULL) abort();
    return memory;
}

static void said(int result) {
    if (result < 0) {
        count.refused++;
        SAY("    %s\n", p4dp_error_text(result));
    }
}

void drain(p4dp_switch *sw) {
    static uint8_t buffer[LARGEST_FRAME + 65536];
    uint32_t port;
    p4dp_event event;
    for (int length; (length = p4dp_output_next(sw, &port, buffer, sizeof buffer)) != P4DP_ENOTFOUND;) {
        if (length < 0) broken("an output is longer than %zu bytes", sizeof buffer);
        count.outputs++;
        SAY("    out: port %u, %d bytes\n", port, length);
    }
    for (int length; (length = p4dp_event_wait(sw, 0, &event, buffer, sizeof buffer)) != P4DP_ENOTFOUND;) {
        if (length < 0) broken("an event is too long for %zu bytes", sizeof buffer);
        count.events++;
        SAY("    event of kind %u, %d bytes\n", event.kind, length);
    }
}

/* ------------------------------------------------------------------------------------------------ packets */

static void packet_step(p4dp_switch *sw, input *in, bool from_controller) {
    static const uint32_t ports[] = {0, 1, 2, 3, 4, 5, 6, 7, CPU_PORT, 255, 510, DROP_PORT};
    uint32_t port = ports[take8(in) % (sizeof ports / sizeof *ports)];
    uint32_t padded = take16(in) % LARGEST_FRAME, length = in->left > padded ? (uint32_t)in->left : padded;
    if (length > LARGEST_FRAME) length = LARGEST_FRAME;
    uint8_t *frame = exact(length);
    take(in, frame, length < in->left ? length : in->left);
    oracle_refresh(sw);
    SAY("  packet of %u bytes on port %u\n", length, port);
    count.packets++;
    said(from_controller ? p4dp_packet_out(sw, frame, length) : p4dp_inject(sw, port, frame, length));
    free(frame);
    drain(sw);
}

/* ------------------------------------------------------------------------------------------------- tables */

static void tidy(uint8_t *bytes, uint32_t width) {
    if (width % 8 != 0) bytes[0] &= (uint8_t)((1u << width % 8) - 1);
}

static void make_prefix(uint8_t *mask, uint32_t width, uint32_t length) {
    uint32_t size = bytes_of(width), pad = size * 8 - width;
    memset(mask, 0, size);
    for (uint32_t bit = 0; bit < length; bit++) mask[(pad + bit) / 8] |= (uint8_t)(0x80 >> (pad + bit) % 8);
}

enum { LITERAL = 1, WIDE = 2, FREE_MASK = 4, DAMAGED = 8 }; /* how a key is made; the bits above choose which seen key */

static void make_field(input *in, const p4prog_key_field *field, uint32_t how, uint8_t *key, uint8_t *mask) {
    uint32_t size = bytes_of(field->width);
    if (size == 0) return;
    tidy(key, field->width);
    switch (field->kind) {
    case P4PROG_EXACT:
    case P4PROG_SELECTOR: make_prefix(mask, field->width, field->width); return;
    case P4PROG_LPM: make_prefix(mask, field->width, how & WIDE ? take8(in) % (field->width + 1) : field->width); break;
    case P4PROG_OPTIONAL: make_prefix(mask, field->width, how & WIDE && take8(in) & 1 ? 0 : field->width); break;
    case P4PROG_TERNARY:
        make_prefix(mask, field->width, field->width);
        if (how & FREE_MASK) take(in, mask, size);
        tidy(mask, field->width);
        break;
    case P4PROG_RANGE: {
        uint8_t low[LARGEST_KEY];
        memcpy(mask, key, size);
        if ((how & FREE_MASK) == 0) return;
        take(in, low, size);
        tidy(low, field->width);
        memcpy(memcmp(low, key, size) < 0 ? key : mask, low, size);
        return;
    }
    }
    for (uint32_t i = 0; i < size; i++) key[i] &= mask[i];
}

static void make_key(input *in, const p4prog_table *table, uint32_t number, uint32_t how, uint8_t *key, uint8_t *mask) {
    const uint8_t *seen = how & LITERAL ? NULL : oracle_seen(number, how >> 4);
    if (seen != NULL)
        memcpy(key, seen, table->key_size);
    else
        take(in, key, table->key_size);
    for (uint32_t k = 0; k < table->n_keys; k++)
        make_field(in, &table->keys[k], how, key + table->keys[k].offset, mask + table->keys[k].offset);
    if (how & DAMAGED && table->key_size > 0) {
        key[take8(in) % table->key_size] ^= take8(in);
        mask[take8(in) % table->key_size] ^= take8(in);
    }
}

static uint8_t *make_data(input *in, const p4prog_action *action) {
    uint8_t *data = exact(action->data_size);
    take(in, data, action->data_size);
    for (uint32_t i = 0; i < action->n_params; i++)
        if (action->params[i].width > 0) tidy(data + action->params[i].offset, action->params[i].width);
    return data;
}

/* The key of one of the table's entries; false when it has none. */
static bool take_existing(p4dp_switch *sw, p4dp_update *u, uint32_t nth, uint8_t *key, uint8_t *mask) {
    p4dp_entry_view view;
    uint64_t handle = 0;
    bool found = false;
    for (uint32_t i = 0; i <= nth && p4dp_entry_next(sw, u->table, handle, &view) == 0; i++) {
        handle = view.handle;
        found = true;
        memcpy(key, view.key, p4prog_main.tables[u->table].key_size);
        memcpy(mask, view.mask, p4prog_main.tables[u->table].key_size);
        u->priority = view.priority;
    }
    return found;
}

static p4dp_update make_update(p4dp_switch *sw, input *in, uint8_t **key, uint8_t **mask, uint8_t **data) {
    static const p4dp_op ops[] = {P4DP_INSERT, P4DP_INSERT, P4DP_INSERT, P4DP_MODIFY, P4DP_DELETE, P4DP_SET_DEFAULT, P4DP_RESET_DEFAULT};
    p4dp_update u = {.op = ops[take8(in) % 7], .table = PICK(p4prog_main.n_tables)};
    const p4prog_table *table = &p4prog_main.tables[u.table];
    uint32_t choice = take8(in), how = take8(in), more = take8(in);
    bool ranked = false;
    for (uint32_t k = 0; k < table->n_keys; k++)
        ranked |= table->keys[k].kind != P4PROG_EXACT && table->keys[k].kind != P4PROG_LPM && table->keys[k].kind != P4PROG_SELECTOR;
    u.priority = ranked ? (int32_t)(more & 7) + 1 : more == 255;
    u.cookie = u.idle_timeout_ns = table->idle_timeout && more & 8 ? 1000000u : 0;
    u.action = choice == 255 ? take32(in) : table->n_actions == 0 ? 0 : table->actions[choice % table->n_actions];
    *key = exact(table->key_size);
    *mask = exact(table->key_size);
    bool old = (u.op == P4DP_MODIFY || u.op == P4DP_DELETE) && (how & LITERAL) == 0 && take_existing(sw, &u, how >> 4, *key, *mask);
    if (!old) make_key(in, table, u.table, how, *key, *mask);
    *data = u.action < p4prog_main.n_actions ? make_data(in, &p4prog_main.actions[u.action]) : NULL;
    if (table->implementation >= 0 && choice != 254) {
        u.kind = choice & 1 ? P4DP_GROUP : P4DP_MEMBER;
        u.action = choice / 2 % FEW;
    }
    u.key = *key;
    u.mask = *mask;
    u.data = *data;
    return u;
}

typedef struct {
    uint64_t entries[MAX_TABLES];
} footprint;

static footprint take_footprint(p4dp_switch *sw) {
    footprint f = {0};
    for (uint32_t i = 0; i < p4prog_main.n_tables && i < MAX_TABLES; i++) f.entries[i] = p4dp_entry_count(sw, i);
    return f;
}

/* What was taken back has left nothing, even if memory ran out on the way. */
static void check_footprint(p4dp_switch *sw, const footprint *before) {
    footprint now = take_footprint(sw);
    for (uint32_t i = 0; i < p4prog_main.n_tables && i < MAX_TABLES; i++)
        if (now.entries[i] != before->entries[i]) broken("changes that were taken back have left their mark on %s", p4prog_main.tables[i].name);
}

static void apply(p4dp_switch *sw, input *in, uint32_t most, bool all_or_none) {
    p4dp_update updates[MAX_UPDATES];
    uint8_t *keys[MAX_UPDATES], *masks[MAX_UPDATES], *data[MAX_UPDATES];
    uint32_t n = 0;
    do {
        updates[n] = make_update(sw, in, &keys[n], &masks[n], &data[n]);
        n++;
    } while (in->left > 0 && n < most);
    footprint before = take_footprint(sw);
    int failed = p4dp_apply(sw, updates, n, all_or_none);
    oracle_forget();
    uint32_t refused = 0;
    for (uint32_t i = 0; i < n; i++) {
        SAY("  op %d on %s: %s\n", updates[i].op, p4prog_main.tables[updates[i].table].name, p4dp_error_text(updates[i].result));
        count.updates += updates[i].result == 0;
        refused += updates[i].result != 0;
        free(keys[i]);
        free(masks[i]);
        free(data[i]);
    }
    count.refused += refused;
    if (!all_or_none && refused != (uint32_t)failed) broken("%d of %u updates failed, %u say so", failed, n, refused);
    if (all_or_none && failed > 0) check_footprint(sw, &before);
}

static void entries_step(p4dp_switch *sw, input *in) {
    if (p4prog_main.n_tables > 0) apply(sw, in, MAX_UPDATES, take8(in) & 1);
}

static void transaction_step(p4dp_switch *sw, input *in) {
    if (p4prog_main.n_tables == 0 || p4dp_begin(sw) != 0) return;
    uint32_t mark = p4dp_mark(sw);
    footprint at_mark = take_footprint(sw);
    while (in->left > 0) switch (take8(in) % 4) {
        case 0:
            mark = p4dp_mark(sw);
            at_mark = take_footprint(sw);
            SAY("  mark %u\n", mark);
            break;
        case 1:
            p4dp_undo(sw, mark);
            SAY("  undo to %u\n", mark);
            check_footprint(sw, &at_mark);
            break;
        default: apply(sw, in, 1 + take8(in) % 4, take8(in) & 1);
        }
    if (p4dp_begin(sw) != P4DP_ESTATE) broken("a transaction within a transaction");
    p4dp_end(sw);
    if (p4dp_undo(sw, 0) != P4DP_ESTATE || p4dp_end(sw) != P4DP_ESTATE) broken("a transaction that has ended is still open");
}

/* ------------------------------------------------------------------------------------------------ externs */

/* One of the profiles and selectors; n_externs: there is none. */
static uint32_t pick_profile(input *in) {
    uint32_t wanted = take8(in), n = p4prog_main.n_externs;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = (wanted + i) % n;
        if (p4prog_main.externs[at].kind == P4PROG_ACTION_PROFILE || p4prog_main.externs[at].kind == P4PROG_ACTION_SELECTOR) return at;
    }
    return n;
}

/* An action of a table that uses the profile, most of the time. */
static uint32_t pick_action(input *in, uint32_t profile) {
    uint32_t wanted = take8(in);
    for (uint32_t i = 0; i < p4prog_main.n_tables && wanted != 255; i++)
        if (p4prog_main.tables[i].implementation == (int32_t)profile && p4prog_main.tables[i].n_actions > 0)
            return p4prog_main.tables[i].actions[wanted % p4prog_main.tables[i].n_actions];
    return PICK(p4prog_main.n_actions);
}

static void member_step(p4dp_switch *sw, input *in) {
    uint32_t profile = pick_profile(in), op = take8(in) % 3, member = take8(in) % FEW;
    if (op == 2) {
        said(p4dp_member_delete(sw, profile, member));
    } else {
        uint32_t action = pick_action(in, profile);
        if (action >= p4prog_main.n_actions) return;
        uint8_t *data = make_data(in, &p4prog_main.actions[action]);
        said(p4dp_member_set(sw, profile, member, action, data, op == 1));
        free(data);
    }
    oracle_forget();
}

static void group_step(p4dp_switch *sw, input *in) {
    uint32_t profile = pick_profile(in), op = take8(in) % 3, group = take8(in) % FEW, n = take8(in) % FEW;
    uint32_t members[FEW], weights[FEW];
    for (uint32_t i = 0; i < n; i++) {
        members[i] = take8(in) % FEW;
        weights[i] = take8(in);
        if (weights[i] == 255) weights[i] = take32(in);
    }
    said(op == 2 ? p4dp_group_delete(sw, profile, group) : p4dp_group_set(sw, profile, group, members, weights, n, op == 1));
    oracle_forget();
}

static void replication_step(p4dp_switch *sw, input *in, bool session) {
    uint32_t op = take8(in) % 4, id = take8(in), n = take8(in) % (MAX_REPLICAS + 1), limit = take8(in);
    p4dp_replica replicas[MAX_REPLICAS];
    id = id == 255 ? take32(in) : id % FEW + 1;
    for (uint32_t i = 0; i < n; i++) {
        replicas[i].port = take16(in) & 0x3ff; /* half of them exist */
        replicas[i].instance = take8(in);
    }
    if (session)
        said(op == 3 ? p4dp_clone_session_delete(sw, id) : p4dp_clone_session_set(sw, id, replicas, n, limit & 1 ? limit / 2 : 0, op == 2));
    else
        said(op == 3 ? p4dp_multicast_delete(sw, id) : p4dp_multicast_set(sw, id, replicas, n, op == 2));
}

static p4dp_meter_config make_meter(input *in) {
    p4dp_meter_config config = {.cir = take32(in), .cburst = take16(in), .pir = take32(in), .pburst = take16(in), .configured = take8(in) != 0};
    if (take8(in) & 1) config.cir = config.pir / 2;
    return config;
}

/* Something about an entry: the `nth` of its table. */
static void direct_step(p4dp_switch *sw, input *in) {
    if (p4prog_main.n_tables == 0) return;
    uint32_t table = take8(in) % p4prog_main.n_tables, nth = take8(in) % 8;
    p4dp_entry_view view = {0};
    for (uint64_t handle = 0; p4dp_entry_next(sw, table, handle, &view) == 0 && nth-- > 0;) handle = view.handle;
    p4dp_meter_config config = make_meter(in);
    said(p4dp_direct_meter_set(sw, table, view.handle, &config));
    said(p4dp_direct_meter_get(sw, table, view.handle, &config));
    said(p4dp_direct_counter_set(sw, table, view.handle, take16(in), take32(in)));
}

static void extern_step(p4dp_switch *sw, input *in) {
    uint32_t index = PICK(p4prog_main.n_externs + 1);
    if (index == p4prog_main.n_externs) {
        direct_step(sw, in);
        return;
    }
    const p4prog_extern *e = &p4prog_main.externs[index];
    uint64_t cell = take8(in), packets, bytes;
    if (cell == 255) cell = (uint64_t)take32(in) << 32 | take32(in);
    p4dp_meter_config config = make_meter(in);
    uint8_t *value = exact(bytes_of(e->width));
    take(in, value, bytes_of(e->width));
    /* All calls: those that are not for this kind have to refuse. */
    said(p4dp_counter_write(sw, index, cell, take32(in), take32(in)));
    said(p4dp_counter_read(sw, index, cell, &packets, &bytes));
    said(p4dp_meter_set(sw, index, cell, &config));
    said(p4dp_meter_get(sw, index, cell, &config));
    said(p4dp_register_write(sw, index, cell, value));
    said(p4dp_register_read(sw, index, cell, value));
    free(value);
}

static void value_set_step(p4dp_switch *sw, input *in) {
    uint32_t index = PICK(p4prog_main.n_value_sets), n = take8(in) % 5, how = take8(in);
    uint32_t size = index < p4prog_main.n_value_sets ? p4prog_main.value_sets[index].key_size : 1;
    uint8_t *keys = exact((size_t)n * size), *masks = exact((size_t)n * size);
    const uint8_t *seen = oracle_seen_value(index);
    for (uint32_t i = 0; i < n; i++) {
        if (seen != NULL && how >> i & 1)
            memcpy(keys + (size_t)i * size, seen, size);
        else
            take(in, keys + (size_t)i * size, size);
        if (how & 0x80)
            take(in, masks + (size_t)i * size, size);
        else
            memset(masks + (size_t)i * size, 0xff, size);
    }
    said(p4dp_value_set_write(sw, index, keys, masks, n));
    free(keys);
    free(masks);
}

/* ------------------------------------------------------------------------------------------- all the rest */

static void time_step(p4dp_switch *sw, input *in) {
    static uint8_t buffer[LARGEST_FRAME];
    p4dp_event event;
    uint64_t passed = (uint64_t)take16(in) * 10000u;
    world_advance(passed);
    if (take8(in) & 1) said(p4dp_time_set(sw, world_now() + passed)); /* from now on it stands still; queues may let packets out */
    clock_step_ns = 600000; /* so that waiting for a millisecond looks for idle entries once and ends */
    int length = p4dp_event_wait(sw, 1, &event, buffer, sizeof buffer);
    clock_step_ns = 100;
    if (length >= 0) count.events++;
    SAY("  time passes; event: %d\n", length);
    drain(sw);
}

static uint32_t one_or_all(input *in, uint32_t limit) {
    uint32_t chosen = take8(in);
    return chosen >= 128 ? P4DP_ALL : chosen % limit;
}

static void queues_step(p4dp_switch *sw, input *in) {
    p4dp_queue_view view;
    uint32_t what = take8(in) % 4, port = one_or_all(in, 12), priority = one_or_all(in, 9);
    uint32_t number = take16(in);
    switch (what) {
    case 0: said(p4dp_queue_priorities(sw, number % 10)); break;
    case 1: said(p4dp_queue_depth(sw, port, priority, number % 64)); break;
    case 2: said(p4dp_queue_rate(sw, port, priority, number)); break;
    case 3: said(p4dp_port_rate(sw, port, number)); break;
    }
    said(p4dp_queue_get(sw, port, priority, &view));
}

/* Another switch takes the program over and gives it back. */
static void adopt_step(p4dp_switch *sw) {
    p4dp_switch *other = p4dp_create(CPU_PORT, DROP_PORT, 2);
    if (other == NULL) return;
    said(p4dp_adopt(other, sw));
    if (p4dp_inject(sw, 1, NULL, 0) != P4DP_ESTATE) broken("a switch without a program takes packets");
    said(p4dp_adopt(sw, other));
    p4dp_destroy(other);
    oracle_forget();
}

static void read_back_step(p4dp_switch *sw, input *in) {
    p4dp_entry_view view, found;
    p4dp_stats_view stats;
    uint8_t frame[16] = {0};
    for (uint32_t table = 0; table <= p4prog_main.n_tables; table++) {
        said(p4dp_default_get(sw, table, &view));
        p4dp_table_bytes(sw, table);
        for (uint64_t handle = 0; p4dp_entry_next(sw, table, handle, &view) == 0; handle = view.handle) {
            p4dp_update which = {.table = table, .key = view.key, .mask = view.mask, .priority = view.priority};
            if (p4dp_entry_find(sw, &which, &found) != 0 || found.handle != view.handle)
                broken("an entry of %s is listed and not found", p4prog_main.tables[table].name);
        }
    }
    p4dp_stats(sw, &stats);
    said(p4dp_port_stats(sw, take16(in), &stats));
    uint32_t port = take16(in), length = take8(in) % 17;
    said((int)p4dp_bench(sw, port, frame, &length, 1, 2));
    p4dp_index(sw, take8(in) % 6, "no such name");
}

static void reload(p4dp_switch *sw) {
    char message[64];
    said(p4dp_load(sw, "/dev/null", message, sizeof message));
    oracle_forget();
}

void run_step(p4dp_switch *sw, uint8_t kind, input in) {
    SAY("step %u, %zu bytes\n", kind, in.left);
    switch (kind) {
    case STEP_PACKET: packet_step(sw, &in, false); break;
    case STEP_PACKET_OUT: packet_step(sw, &in, true); break;
    case STEP_ENTRIES: entries_step(sw, &in); break;
    case STEP_MEMBER: member_step(sw, &in); break;
    case STEP_GROUP: group_step(sw, &in); break;
    case STEP_MULTICAST: replication_step(sw, &in, false); break;
    case STEP_CLONE_SESSION: replication_step(sw, &in, true); break;
    case STEP_EXTERN: extern_step(sw, &in); break;
    case STEP_VALUE_SET: value_set_step(sw, &in); break;
    case STEP_TIME: time_step(sw, &in); break;
    case STEP_SCARCE_MEMORY: world_fail_allocation(take8(&in) % 32); break;
    case STEP_READ_BACK: read_back_step(sw, &in); break;
    case STEP_TRACE: {
        uint32_t how = take8(&in);
        said(p4dp_trace(sw, how & 1 ? "trace" : NULL, how & 2));
        said(p4dp_pcap(sw, how & 4 ? "captures" : NULL));
        break;
    }
    case STEP_RELOAD: reload(sw); break;
    case STEP_TRANSACTION: transaction_step(sw, &in); break;
    case STEP_QUEUES: queues_step(sw, &in); break;
    case STEP_ADOPT: adopt_step(sw); break;
    }
}

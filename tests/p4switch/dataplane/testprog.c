/* A program written by hand against p4prog.h, as the compiler would generate one. It exercises the runtime from inside.
 *
 * The packet starts with op, arg and a 16-bit word; what happens is chosen by op. Ops 1 to 9 behave like a small program about
 * clones, resubmission, multicast, truncation, registers and drops; ops from 0x20 on call one service of the runtime each and
 * write what they got to the front of the packet.
 */
#include "p4prog.h"

#include <string.h>

#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof *(array)))

typedef struct {
    uint8_t op, arg;
    uint16_t word;
    bool valid;
    uint8_t result[32]; /* emitted before the header when result_length is set */
    uint32_t result_length;
    uint8_t kept, lost; /* user metadata */
    uint8_t key[64];
    uint8_t egress_ops;
} context;

/* ------------------------------------------------------------------------------------------------- actions */

static const p4prog_param value_params[] = {{"value", 32, 0}};
static const p4prog_param pair_params[] = {{"port", 9, 0}, {"mac", 48, 2}};
static const p4prog_action actions[] = {
    {"NoAction", NULL, 0, 0},
    {"set_value", value_params, 1, 4},
    {"set_pair", pair_params, 2, 8},
};
static const uint32_t all_actions[] = {0, 1, 2};

/* -------------------------------------------------------------------------------------------------- tables */

static const p4prog_key_field exact_keys[] = {{"k", 64, 0, P4PROG_EXACT}};
static const p4prog_key_field wide_keys[] = {
    {"a", 16, 0, P4PROG_EXACT}, {"b", 48, 2, P4PROG_EXACT}, {"c", 32, 8, P4PROG_EXACT}, {"d", 12, 12, P4PROG_EXACT}};
static const p4prog_key_field long_keys[] = {{"a", 160, 0, P4PROG_EXACT}, {"b", 12, 20, P4PROG_EXACT}};
static const p4prog_key_field tiny_keys[] = {{"k", 3, 0, P4PROG_EXACT}};
static const p4prog_key_field lpm_keys[] = {{"k", 32, 0, P4PROG_LPM}};
static const p4prog_key_field lpm_exact_keys[] = {{"e", 16, 0, P4PROG_EXACT}, {"k", 64, 2, P4PROG_LPM}};
static const p4prog_key_field lpm_odd_keys[] = {{"k", 20, 0, P4PROG_LPM}, {"e", 3, 3, P4PROG_EXACT}};
static const p4prog_key_field ternary_keys[] = {{"t", 32, 0, P4PROG_TERNARY}, {"o", 8, 4, P4PROG_OPTIONAL}};
static const p4prog_key_field range_keys[] = {
    {"r", 16, 0, P4PROG_RANGE}, {"t", 16, 2, P4PROG_TERNARY}, {"e", 4, 4, P4PROG_EXACT}, {"l", 8, 5, P4PROG_LPM}};
static const p4prog_key_field selector_keys[] = {
    {"k", 16, 0, P4PROG_EXACT}, {"s", 16, 2, P4PROG_SELECTOR}, {"u", 13, 4, P4PROG_SELECTOR}};
static const p4prog_key_field counted_keys[] = {{"k", 16, 0, P4PROG_EXACT}};

enum { COUNTER, METER, REGISTER, DIRECT_COUNTER, DIRECT_METER, SELECTOR, PROFILE, BYTE_METER };

static const uint8_t const_key_1[] = {0, 1}, const_key_2[] = {0, 2}, value_7[] = {0, 0, 0, 7}, value_8[] = {0, 0, 0, 8};
static const p4prog_entry const_entries[] = {
    {const_key_1, NULL, value_7, 1, 0, true}, {const_key_2, NULL, value_8, 1, 0, true}};
static const p4prog_entry initial_entries[] = {
    {const_key_1, NULL, value_7, 1, 0, true}, {const_key_2, NULL, value_8, 1, 0, false}};

#define TABLE(NAME, KEYS, BYTES, SIZE) \
    .name = NAME, .keys = KEYS, .n_keys = COUNT(KEYS), .key_size = BYTES, .actions = all_actions, .n_actions = 3, .size = SIZE
#define PLAIN .implementation = -1, .counter = -1, .meter = -1

enum { T_EXACT, T_WIDE, T_LONG, T_TINY, T_LPM, T_LPM_EXACT, T_LPM_ODD, T_TERNARY, T_RANGE, T_SELECTOR, T_COUNTED, T_CONST, T_INITIAL,
       T_KEYLESS, T_FULL, T_PROFILE };
static const p4prog_table tables[] = {
    [T_EXACT] = {TABLE("exact", exact_keys, 8, 1000000), PLAIN},
    [T_WIDE] = {TABLE("wide", wide_keys, 14, 65536), PLAIN},
    [T_LONG] = {TABLE("long", long_keys, 22, 65536), PLAIN},
    [T_TINY] = {TABLE("tiny", tiny_keys, 1, 65536), PLAIN},
    [T_LPM] = {TABLE("lpm", lpm_keys, 4, 1000000), PLAIN},
    [T_LPM_EXACT] = {TABLE("lpm_exact", lpm_exact_keys, 10, 65536), PLAIN},
    [T_LPM_ODD] = {TABLE("lpm_odd", lpm_odd_keys, 4, 65536), PLAIN},
    [T_TERNARY] = {TABLE("ternary", ternary_keys, 5, 65536), PLAIN},
    [T_RANGE] = {TABLE("range", range_keys, 6, 65536), PLAIN},
    [T_SELECTOR] = {TABLE("selector", selector_keys, 6, 1024), .implementation = SELECTOR, .counter = -1, .meter = -1},
    [T_COUNTED] = {TABLE("counted", counted_keys, 2, 1024), .implementation = -1, .counter = DIRECT_COUNTER, .meter = DIRECT_METER,
                   .idle_timeout = true},
    [T_CONST] = {TABLE("const", counted_keys, 2, 2), PLAIN, .entries = const_entries, .n_entries = 2, .const_entries = true,
                 .default_action = 1, .default_data = value_7, .const_default = true},
    [T_INITIAL] = {TABLE("initial", counted_keys, 2, 4), PLAIN, .entries = initial_entries, .n_entries = 2},
    [T_KEYLESS] = {.name = "keyless", .actions = all_actions, .n_actions = 3, .size = 1, PLAIN},
    [T_FULL] = {TABLE("full", exact_keys, 8, 3), PLAIN},
    [T_PROFILE] = {TABLE("profile", counted_keys, 2, 64), .implementation = PROFILE, .counter = -1, .meter = -1},
};

/* ------------------------------------------------------------------------------------------- other objects */

static const p4prog_extern externs[] = {
    [COUNTER] = {.name = "counter", .kind = P4PROG_COUNTER, .size = 16, .unit = P4PROG_PACKETS_AND_BYTES},
    [METER] = {.name = "meter", .kind = P4PROG_METER, .size = 4, .unit = P4PROG_PACKETS},
    [REGISTER] = {.name = "register", .kind = P4PROG_REGISTER, .size = 4, .width = 16},
    [DIRECT_COUNTER] = {.name = "direct_counter", .kind = P4PROG_DIRECT_COUNTER, .unit = P4PROG_PACKETS_AND_BYTES},
    [DIRECT_METER] = {.name = "direct_meter", .kind = P4PROG_DIRECT_METER, .unit = P4PROG_PACKETS},
    [SELECTOR] = {.name = "selector_profile", .kind = P4PROG_ACTION_SELECTOR, .size = 8, .algorithm = P4PROG_HASH_CRC16, .selector_width = 16},
    [PROFILE] = {.name = "action_profile", .kind = P4PROG_ACTION_PROFILE, .size = 2},
    [BYTE_METER] = {.name = "byte_meter", .kind = P4PROG_METER, .size = 1, .unit = P4PROG_BYTES},
};
static const p4prog_param digest_fields[] = {{"arg", 8, 0}, {"word", 16, 1}};
static const p4prog_digest digests[] = {{"first_t", 3, digest_fields, 2}, {"second_t", 3, digest_fields, 2}};
static const p4prog_key_field set_keys[] = {{"t", 8, 0, P4PROG_TERNARY}, {"r", 16, 1, P4PROG_RANGE}};
static const p4prog_value_set value_sets[] = {{"set", set_keys, 2, 3, 4}};
static const char *const errors[] = {"NoError", "PacketTooShort"};

/* -------------------------------------------------------------------------------------------------- stages */

static uint32_t parse(p4prog_env *env, void *ctx, p4prog_standard_metadata *sm, const uint8_t *packet, uint32_t length) {
    context *c = ctx;
    uint8_t kept = c->kept, lost = c->lost;
    (void)env;
    memset(c, 0, sizeof *c);
    if (sm->instance_type == P4PROG_RESUBMIT || sm->instance_type == P4PROG_RECIRC) {
        c->kept = kept;
        c->lost = lost;
    }
    if (length < 4) {
        sm->parser_error = 1;
        return 0;
    }
    c->op = packet[0];
    c->arg = packet[1];
    c->word = (uint16_t)(packet[2] << 8 | packet[3]);
    c->valid = true;
    /* Keys and the like are read from what follows the header and stay in the payload. */
    memcpy(c->key, packet + 4, length - 4 < sizeof c->key ? length - 4 : sizeof c->key);
    return 4;
}

static void put(context *c, const void *bytes, uint32_t length) {
    memcpy(c->result + c->result_length, bytes, length);
    c->result_length += length;
}

static void put_number(context *c, uint64_t number, uint32_t size) {
    for (uint32_t i = size; i-- > 0;) c->result[c->result_length++] = (uint8_t)(number >> 8 * i);
}

static void services(p4prog_env *env, context *c, p4prog_standard_metadata *sm, p4prog_requests *requests) {
    switch (c->op) {
    case 0x20: { /* table lookup: hit, action, data */
        if (c->arg >= COUNT(tables)) break;
        p4prog_match match = p4prog_lookup(env, c->arg, c->key, sm->packet_length);
        put_number(c, match.hit, 1);
        put_number(c, match.action, 1);
        if (match.action != P4PROG_NO_ACTION) put(c, match.data, actions[match.action].data_size);
        if (c->arg == T_COUNTED) put_number(c, p4prog_direct_meter(env, T_COUNTED), 1);
        break;
    }
    case 0x21: p4prog_count(env, COUNTER, c->word, sm->packet_length); break;
    case 0x22:
        if (c->arg == METER || c->arg == BYTE_METER) put_number(c, p4prog_meter(env, c->arg, c->word, sm->packet_length), 1);
        break;
    case 0x23:
        if (c->word <= sizeof c->key) put_number(c, p4prog_hash(env, c->arg, c->key, c->word), 8);
        break;
    case 0x24: put_number(c, p4prog_random(env), 8); break;
    case 0x25: { /* digests: the last wins */
        uint8_t message[3] = {c->arg, (uint8_t)(c->word >> 8), (uint8_t)c->word};
        p4prog_digest_send(env, 1, message);
        p4prog_digest_send(env, 0, message);
        break;
    }
    case 0x26: put_number(c, p4prog_value_set_contains(env, 0, c->key), 1); break;
    case 0x27: /* timestamps and queueing metadata */
        put_number(c, sm->ingress_global_timestamp, 6);
        break;
    case 0x28: sm->egress_spec = c->word & 511; break;
    case 0x29: requests->resubmit = true; break; /* for ever */
    case 0x2a: sm->mcast_grp = c->word; break;
    case 0x2b: p4prog_log(env, "log %u", c->arg); break;
    case 0x2c: /* egress clone with truncation and the like: see egress */
    case 0x2d:
    case 0x2e: break;
    case 0x2f: { /* the rack's work: five lookups */
        static const uint8_t order[] = {T_EXACT, T_LPM_EXACT, T_LPM, T_WIDE, T_COUNTED};
        for (uint32_t i = 0; i < COUNT(order); i++) {
            p4prog_match match = p4prog_lookup(env, order[i], c->key, sm->packet_length);
            c->word = (uint16_t)(c->word + match.hit);
        }
        break;
    }
    case 0x30: /* a priority, and a port */
        sm->priority = c->arg & 7u;
        sm->egress_spec = c->word & 511u;
        break;
    default: break;
    }
}

static void ingress(p4prog_env *env, void *ctx, p4prog_standard_metadata *sm, p4prog_requests *requests) {
    context *c = ctx;
    sm->egress_spec = 1;
    if (!c->valid) return;
    if (p4prog_tracing(env)) p4prog_trace(env, "op", "small");
    if (c->op >= 0x20) {
        services(env, c, sm, requests);
        return;
    }
    uint8_t cell[2];
    p4prog_register_read(env, REGISTER, c->op & 3, cell);
    uint16_t n = (uint16_t)((cell[0] << 8 | cell[1]) + 1);
    cell[0] = (uint8_t)(n >> 8);
    cell[1] = (uint8_t)n;
    p4prog_register_write(env, REGISTER, c->op & 3, cell);
    c->word = n;
    c->lost = 7;
    if (sm->instance_type == P4PROG_NORMAL) c->kept = 5;
    switch (c->op) {
    case 1:
        requests->clone = true;
        requests->clone_session = 5;
        requests->clone_field_list = 1;
        c->arg = 0x11;
        c->kept = 9;
        break;
    case 2:
        if (sm->instance_type == P4PROG_NORMAL) {
            c->kept = 0x22;
            requests->resubmit = true;
            requests->resubmit_field_list = 1;
        } else {
            c->arg = (uint8_t)(c->kept + c->lost);
        }
        break;
    case 3: sm->mcast_grp = 1; break;
    case 4:
    case 5:
        sm->egress_spec = 511;
        sm->mcast_grp = 0;
        if (c->op == 5) sm->egress_spec = 2;
        break;
    case 6:
        requests->has_truncate = true;
        requests->truncate_length = 6;
        break;
    case 7:
        p4prog_register_write(env, REGISTER, 99, cell);
        p4prog_register_read(env, REGISTER, 99, cell);
        c->word = (uint16_t)(cell[0] << 8 | cell[1]);
        break;
    default: break;
    }
}

static void egress(p4prog_env *env, void *ctx, p4prog_standard_metadata *sm, p4prog_requests *requests) {
    context *c = ctx;
    (void)env;
    if (!c->valid) return;
    if (c->op == 0x27) {
        put_number(c, sm->egress_global_timestamp, 6);
        put_number(c, sm->enq_qdepth | sm->deq_timedelta | sm->deq_qdepth, 4);
        put_number(c, sm->egress_spec, 2);
        put_number(c, sm->egress_port, 2);
        put_number(c, sm->packet_length, 2);
    }
    if (c->op == 0x30) {
        put_number(c, sm->enq_timestamp, 4);
        put_number(c, sm->enq_qdepth, 4);
        put_number(c, sm->deq_timedelta, 4);
        put_number(c, sm->deq_qdepth, 4);
        put_number(c, sm->qid, 1);
    }
    if (c->op == 0x2c) { /* recirculate arg times */
        if (c->arg != 0) {
            c->arg--;
            c->word++;
            c->kept = (uint8_t)(c->kept + 1);
            requests->recirculate = true;
            requests->recirculate_field_list = 1;
        } else {
            put_number(c, c->kept, 1);
            put_number(c, sm->instance_type, 1);
        }
    }
    if (c->op == 0x2d && sm->instance_type == P4PROG_NORMAL) { /* drop in egress, but clone */
        requests->clone = true;
        requests->clone_session = c->word;
        sm->egress_spec = 511;
    }
    if (c->op == 0x2e) { /* every packet clones itself: stopped by the runtime */
        requests->clone = true;
        requests->clone_session = c->word;
    }
    if (sm->instance_type == P4PROG_I2E_CLONE) c->arg = (uint8_t)(c->kept + c->lost);
    if (c->op == 3) c->arg = (uint8_t)sm->egress_rid;
    if (c->op == 9 && sm->instance_type == P4PROG_NORMAL) {
        c->arg = 0x91;
        requests->clone = true;
        requests->clone_session = 5;
        requests->clone_field_list = 1;
        c->word = 0xaaaa;
    }
}

static uint32_t deparse(p4prog_env *env, void *ctx, p4prog_standard_metadata *sm, const uint8_t *payload, uint32_t payload_length,
                        uint8_t *out) {
    context *c = ctx;
    (void)env, (void)sm, (void)payload, (void)payload_length;
    memcpy(out, c->result, c->result_length);
    out += c->result_length;
    if (!c->valid) return c->result_length;
    out[0] = c->op;
    out[1] = c->arg;
    out[2] = (uint8_t)(c->word >> 8);
    out[3] = (uint8_t)c->word;
    return c->result_length + 4;
}

static void copy_field_list(uint32_t index, const void *from_ctx, const p4prog_standard_metadata *from_sm, void *to_ctx,
                            p4prog_standard_metadata *to_sm) {
    const context *from = from_ctx;
    context *to = to_ctx;
    (void)from_sm, (void)to_sm;
    if (index == 1) to->kept = from->kept;
}

static void reset_metadata(void *ctx) {
    context *c = ctx;
    c->kept = c->lost = 0;
}

const p4prog_program p4prog_main = {
    .abi_version = P4PROG_ABI_VERSION,
    .name = "testprog",
    .actions = actions,
    .n_actions = COUNT(actions),
    .tables = tables,
    .n_tables = COUNT(tables),
    .externs = externs,
    .n_externs = COUNT(externs),
    .digests = digests,
    .n_digests = COUNT(digests),
    .value_sets = value_sets,
    .n_value_sets = COUNT(value_sets),
    .errors = errors,
    .n_errors = COUNT(errors),
    .ctx_size = sizeof(context),
    .max_header_bytes = 40,
    .parse = parse,
    .ingress = ingress,
    .egress = egress,
    .deparse = deparse,
    .copy_field_list = copy_field_list,
    .reset_metadata = reset_metadata,
};

/* The boundary between a generated P4 program and the runtime: what the program describes, what it may call.
 *
 * A program is one shared object that exports `const p4prog_program p4prog_main`. It keeps no state of its own: all state is
 * in the runtime's objects, reached through the `p4prog_env` of the switch that runs it, and in a per-packet scratch area of
 * `ctx_size` bytes. Everything is referred to by index into the arrays of the descriptor; names are for the control side.
 */
#ifndef P4PROG_H
#define P4PROG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define P4PROG_ABI_VERSION 2u

typedef struct p4prog_env p4prog_env; /* opaque: one a switch instance, owned by the runtime */

/* ------------------------------------------------------------------------------------------- descriptors */

typedef enum {
    P4PROG_EXACT,
    P4PROG_LPM,
    P4PROG_TERNARY,
    P4PROG_RANGE,
    P4PROG_OPTIONAL,
    P4PROG_SELECTOR /* not part of the match, but of the member hash of an action selector */
} p4prog_match_kind;

/* Key fields and action arguments are stored one after the other, each in (width + 7) / 8 bytes, network byte order. */
typedef struct {
    const char *name;
    uint32_t width; /* bits */
    uint32_t offset; /* bytes, in the key */
    p4prog_match_kind kind;
} p4prog_key_field;

typedef struct {
    const char *name;
    uint32_t width; /* bits */
    uint32_t offset; /* bytes, in the action data */
} p4prog_param;

typedef struct {
    const char *name; /* control-plane name */
    const p4prog_param *params;
    uint32_t n_params;
    uint32_t data_size; /* bytes of action data */
} p4prog_action;

typedef struct {
    const uint8_t *key; /* key_size bytes */
    const uint8_t *mask; /* key_size bytes; for range fields the upper bound instead; NULL when all exact */
    const uint8_t *data;
    uint32_t action; /* index into p4prog_program.actions */
    int32_t priority; /* larger wins */
    bool is_const;
} p4prog_entry;

typedef struct {
    const char *name;
    const p4prog_key_field *keys;
    uint32_t n_keys;
    uint32_t key_size; /* bytes */
    const uint32_t *actions; /* indices into p4prog_program.actions */
    uint32_t n_actions;
    uint32_t size; /* requested number of entries */
    uint32_t default_action; /* index into p4prog_program.actions */
    const uint8_t *default_data;
    bool const_default;
    const p4prog_entry *entries; /* const and initial entries */
    uint32_t n_entries;
    bool const_entries;
    int32_t implementation; /* extern index of an action profile or selector, -1 for none */
    int32_t counter; /* extern index of the direct counter, -1 */
    int32_t meter; /* extern index of the direct meter, -1 */
    bool idle_timeout;
} p4prog_table;

typedef enum {
    P4PROG_COUNTER,
    P4PROG_DIRECT_COUNTER,
    P4PROG_METER,
    P4PROG_DIRECT_METER,
    P4PROG_REGISTER,
    P4PROG_ACTION_PROFILE,
    P4PROG_ACTION_SELECTOR
} p4prog_extern_kind;

typedef enum { P4PROG_PACKETS, P4PROG_BYTES, P4PROG_PACKETS_AND_BYTES } p4prog_unit;

typedef enum {
    P4PROG_HASH_CRC32,
    P4PROG_HASH_CRC32_CUSTOM,
    P4PROG_HASH_CRC16,
    P4PROG_HASH_CRC16_CUSTOM,
    P4PROG_HASH_RANDOM,
    P4PROG_HASH_IDENTITY,
    P4PROG_HASH_CSUM16,
    P4PROG_HASH_XOR16
} p4prog_hash_algorithm; /* the order of v1model's HashAlgorithm */

typedef struct {
    const char *name;
    p4prog_extern_kind kind;
    uint64_t size; /* cells of indexed externs */
    p4prog_unit unit;
    uint32_t width; /* bits of a register cell; cells are stored in (width + 7) / 8 bytes, network byte order */
    p4prog_hash_algorithm algorithm; /* selectors */
    uint32_t selector_width;
} p4prog_extern;

typedef struct {
    const char *name;
    uint32_t size; /* bytes of one message: fields as in action data, one after the other, byte aligned */
    const p4prog_param *fields;
    uint32_t n_fields;
} p4prog_digest;

typedef struct {
    const char *name;
    const p4prog_key_field *keys;
    uint32_t n_keys;
    uint32_t key_size;
    uint32_t size;
} p4prog_value_set;

/* --------------------------------------------------------------------------------- per-packet standard state */

/* v1model's intrinsic metadata, exchanged between runtime and program around each stage. */
typedef struct {
    uint32_t ingress_port, egress_spec, egress_port;
    uint32_t instance_type, packet_length;
    uint32_t enq_timestamp, enq_qdepth, deq_timedelta, deq_qdepth;
    uint64_t ingress_global_timestamp, egress_global_timestamp; /* microseconds */
    uint32_t mcast_grp, egress_rid;
    uint32_t checksum_error, parser_error, priority;
    uint32_t qid; /* the priority queue that the packet left; in no p4c header, but bmv2 fills it in where a program declares it */
} p4prog_standard_metadata;

enum { P4PROG_NORMAL = 0, P4PROG_I2E_CLONE = 1, P4PROG_E2E_CLONE = 2, P4PROG_RECIRC = 4, P4PROG_REPLICATION = 5, P4PROG_RESUBMIT = 6 };

/* What the stages asked the runtime to do; the runtime zeroes it before ingress and before egress. */
typedef struct {
    bool clone, resubmit, recirculate, has_truncate;
    uint32_t clone_session, clone_field_list, resubmit_field_list, recirculate_field_list; /* field list 0: none kept */
    uint32_t truncate_length;
} p4prog_requests;

/* ------------------------------------------------------------------------------------------------ the program */

typedef struct {
    uint32_t abi_version;
    const char *name;
    const p4prog_action *actions;
    uint32_t n_actions;
    const p4prog_table *tables;
    uint32_t n_tables;
    const p4prog_extern *externs;
    uint32_t n_externs;
    const p4prog_digest *digests;
    uint32_t n_digests;
    const p4prog_value_set *value_sets;
    uint32_t n_value_sets;
    const char *const *errors; /* names of the error values, for traces */
    uint32_t n_errors;

    uint32_t ctx_size; /* bytes of scratch a packet; the runtime aligns it to 64 and never shares it between packets in flight.
                          It copies a ctx with memcpy to replicate a packet: a ctx holds no pointers into itself. */
    uint32_t max_header_bytes; /* upper bound of what deparse writes */

    /* Zero the headers, then run the parser and verify_checksum on the packet. Returns the number of bytes consumed, the rest
       is payload. Fills sm->parser_error and sm->checksum_error. User metadata are zeroed too unless sm->instance_type is
       P4PROG_RESUBMIT or P4PROG_RECIRC: then the runtime has called reset_metadata and copy_field_list before. */
    uint32_t (*parse)(p4prog_env *env, void *ctx, p4prog_standard_metadata *sm, const uint8_t *packet, uint32_t length);
    void (*ingress)(p4prog_env *env, void *ctx, p4prog_standard_metadata *sm, p4prog_requests *requests);
    void (*egress)(p4prog_env *env, void *ctx, p4prog_standard_metadata *sm, p4prog_requests *requests);
    /* compute_checksum and deparser: writes at most max_header_bytes to out, returns their number. */
    uint32_t (*deparse)(p4prog_env *env, void *ctx, p4prog_standard_metadata *sm, const uint8_t *payload,
                        uint32_t payload_length, uint8_t *out);
    /* User metadata and standard metadata of a field list, saved from one ctx and restored into a fresh one. */
    void (*copy_field_list)(uint32_t index, const void *from_ctx, const p4prog_standard_metadata *from_sm, void *to_ctx,
                            p4prog_standard_metadata *to_sm);
    /* Zero the user metadata and leave the headers alone: clones keep nothing but their field list. */
    void (*reset_metadata)(void *ctx);
} p4prog_program;

/* -------------------------------------------------------------------------- what a program calls in the runtime */

typedef struct {
    const uint8_t *data; /* action data, valid until the end of the packet */
    uint32_t action; /* index into p4prog_program.actions, or P4PROG_NO_ACTION: a hit on an empty group, nothing to do */
    bool hit;
} p4prog_match;
#define P4PROG_NO_ACTION 0xffffffffu

/* Look a key of key_size bytes up; a hit counts in the entry's direct counter and executes its direct meter. */
p4prog_match p4prog_lookup(p4prog_env *env, uint32_t table, const uint8_t *key, uint32_t packet_length);
bool p4prog_value_set_contains(p4prog_env *env, uint32_t value_set, const uint8_t *key);

void p4prog_count(p4prog_env *env, uint32_t extern_index, uint64_t cell, uint32_t packet_length);
uint32_t p4prog_meter(p4prog_env *env, uint32_t extern_index, uint64_t cell, uint32_t packet_length);
uint32_t p4prog_direct_meter(p4prog_env *env, uint32_t table); /* the colour of this table's last hit in this pass; 0 without */
/* Out of range: read leaves `value` as it is (bmv2 then does not change the destination, so fill it in before), write does
   nothing, a meter is green. */
void p4prog_register_read(p4prog_env *env, uint32_t extern_index, uint64_t cell, uint8_t *value);
void p4prog_register_write(p4prog_env *env, uint32_t extern_index, uint64_t cell, const uint8_t *value);

/* The raw hash of data (before base and max are applied), up to 32 bits; identity gives the number in its first 8 bytes, as
   bmv2 does. */
uint64_t p4prog_hash(p4prog_env *env, p4prog_hash_algorithm algorithm, const uint8_t *data, uint32_t length);
uint64_t p4prog_random(p4prog_env *env); /* 64 random bits */
/* Sent at the end of ingress (or egress); as in bmv2, the last call of a packet wins. */
void p4prog_digest_send(p4prog_env *env, uint32_t digest, const uint8_t *message);

/* Tracing. An env begins with a bool that says whether traces are wanted, so that asking costs no call. The runtime itself traces
   table lookups (key, hit or miss, action and data), replication, drops and outputs; programs add what only they know: events
   `parser_state`, `mark_to_drop` (where), and actions that are called directly, with their arguments as in action data. */
static inline bool p4prog_tracing(const p4prog_env *env) { return *(const bool *)(const void *)env; }
void p4prog_trace(p4prog_env *env, const char *event, const char *detail); /* both live as long as the program */
void p4prog_trace_action(p4prog_env *env, const char *name, const p4prog_param *params, uint32_t count, const uint8_t *data);
void p4prog_log(p4prog_env *env, const char *format, ...) __attribute__((format(printf, 2, 3))); /* log_msg, assert */

#endif

/* The switch: what its parts share. One instance is touched by one thread at a time, the one that holds the gate; only the event
 * queue has a lock of its own, so that waiting for events does not stop packets.
 */
#ifndef P4DP_INTERNAL_H
#define P4DP_INTERNAL_H

#include "common.h"
#include "table.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

/* ------------------------------------------------------------------------------------------------ gate.c */

/* A first-come-first-served lock. The data-plane thread gives it up between batches when somebody waits, and queues again
   behind those who waited, so neither side can starve the other. */
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t next, serving;
    atomic_uint waiting;
    atomic_ulong holder; /* the thread that keeps the gate between calls; 0: none */
} dp_gate;

void dp_gate_init(dp_gate *gate);
void dp_gate_destroy(dp_gate *gate);
void dp_gate_enter(dp_gate *gate);
void dp_gate_leave(dp_gate *gate);
/* Enter and stay: until the release, the calling thread's own enters and leaves do nothing. */
void dp_gate_hold(dp_gate *gate);
void dp_gate_release(dp_gate *gate);
static inline bool dp_gate_wanted(dp_gate *gate) { return atomic_load_explicit(&gate->waiting, memory_order_relaxed) != 0; }

/* ----------------------------------------------------------------------------------------------- arena.c */

/* Memory that lives until the end of a batch: headers of outgoing packets, copies for replication, recirculated packets. */
typedef struct dp_chunk {
    struct dp_chunk *next;
    size_t size;
    _Alignas(64) uint8_t bytes[];
} dp_chunk;
typedef struct {
    dp_chunk *first, *current;
    size_t used; /* of current */
    size_t total; /* of all chunks */
} dp_arena;

void *dp_arena_more(dp_arena *arena, size_t size);
void dp_arena_reset(dp_arena *arena);
void dp_arena_free(dp_arena *arena);

/* 64-byte aligned; NULL when out of memory. */
static inline void *dp_arena_alloc(dp_arena *arena, size_t size) {
    size = dp_align(size, 64);
    if (UNLIKELY(arena->current == NULL || arena->used + size > arena->current->size)) return dp_arena_more(arena, size);
    void *memory = arena->current->bytes + arena->used;
    arena->used += size;
    return memory;
}
/* Give back the end of the latest allocation. */
static inline void dp_arena_trim(dp_arena *arena, void *latest, size_t keep) {
    arena->used = dp_align((size_t)((uint8_t *)latest - arena->current->bytes) + keep, 64);
}

/* ---------------------------------------------------------------------------------------------- externs.c */

typedef struct {
    uint64_t packets, bytes;
} dp_counter;

typedef struct {
    uint32_t id, action, references; /* references: entries, defaults and groups that name it */
    uint8_t *data;
} dp_member;
typedef struct {
    uint32_t id, references, count, total_weight;
    uint32_t *members; /* ids, in order */
    uint32_t *choices; /* member slots, each as often as its weight */
} dp_member_group;
typedef struct {
    dp_map member_map, group_map; /* id to slot + 1 */
    dp_member *members;
    dp_member_group *groups;
    uint32_t n_members, n_groups, used_members;
    uint32_t free_member, free_group; /* no slot below is free */
} dp_profile;

typedef struct {
    const p4prog_extern *desc;
    uint64_t size;
    uint32_t cell_bytes; /* registers */
    dp_counter *counters;
    dp_meter *meters;
    uint8_t *cells;
    dp_profile *profile;
} dp_extern;

typedef struct {
    const p4prog_value_set *desc;
    uint8_t *keys, *masks;
    uint32_t count;
} dp_value_set;

bool dp_extern_init(dp_extern *e, const p4prog_extern *desc);
void dp_extern_free(dp_extern *e);
bool dp_meter_configure(dp_meter *meter, const p4dp_meter_config *config, uint64_t now_us);
uint32_t dp_meter_execute(dp_meter *meter, uint64_t units, uint64_t now_us);

/* profiles.c */
dp_profile *dp_profile_new(void);
void dp_profile_free(dp_profile *profile);
const dp_member *dp_profile_member(const dp_profile *profile, uint32_t id);
/* The member a group gives for a packet's key, NULL for an empty or unknown group. */
const dp_member *dp_profile_select(p4prog_env *env, const dp_table *t, const dp_extern *e, uint32_t group, const uint8_t *key);
/* Count references of entries; delta is 1 or -1. False when there is no such member or group. */
bool dp_profile_refer(dp_profile *profile, p4dp_entry_kind kind, uint32_t id, int delta);
bool dp_profile_allowed(const dp_table *t, const dp_profile *profile, p4dp_entry_kind kind, uint32_t id);

/* ------------------------------------------------------------------------------------------- replication.c */

typedef struct {
    uint32_t count, truncate_length;
    p4dp_replica replicas[];
} dp_replicas;

#ifndef DP_GROUPS /* the fuzz target makes a switch for every input and wants fewer */
#define DP_GROUPS 65536u /* mcast_grp is bit<16>; sessions are below 32768 in P4Runtime */
#endif

/* ------------------------------------------------------------------------------------------------ events.c */

typedef struct dp_queued {
    struct dp_queued *next;
    p4dp_event event;
    uint32_t length;
    uint8_t bytes[];
} dp_queued;
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t arrived;
    dp_queued *head, *tail;
    uint32_t count, bytes;
    uint64_t lost;
    unsigned waiters, wakes; /* a wake is meant for those who wait at that moment */
} dp_events;

void dp_events_init(dp_events *events);
void dp_events_destroy(dp_events *events);
/* Copies two pieces one after the other. */
void dp_event_push(dp_events *events, const p4dp_event *event, const uint8_t *a, uint32_t a_length, const uint8_t *b,
                   uint32_t b_length);

/* ------------------------------------------------------------------------------------------------ queues.c */

typedef struct dp_waiting dp_waiting;
typedef struct dp_port_queues dp_port_queues;
typedef struct {
    bool in_use; /* some port has queues */
    bool defaults; /* every port has, with these: */
    uint32_t depth;
    uint64_t rate, port_rate;
    uint32_t priorities;
    dp_port_queues *ports[DP_PORTS];
    uint16_t active[DP_PORTS]; /* ports with packets that wait */
    uint32_t n_active, waiting;
    dp_waiting *spent; /* have left, and are still referred to by what is to be sent */
} dp_traffic;

/* Queue a packet or drop it; false when the port has no queues. The priority is in range. */
bool dp_queue_take(p4dp_switch *sw, const void *ctx, const p4prog_standard_metadata *sm, uint32_t port, const uint8_t *payload,
                   uint32_t length, uint32_t limit, uint32_t depth);
void dp_queue_refuse(p4dp_switch *sw, uint32_t port, uint32_t priority);
/* Egress of up to `limit` packets whose time has come by env->now_ns; true when it stopped at the limit. */
bool dp_queues_serve(p4dp_switch *sw, uint32_t limit);
uint64_t dp_queues_next(const p4dp_switch *sw); /* when the next leaves, UINT64_MAX: none waits */
void dp_queues_free_spent(p4dp_switch *sw);
void dp_queues_empty(p4dp_switch *sw); /* drop all */
void dp_queues_free(p4dp_switch *sw);

/* ------------------------------------------------------------------------------------------- ports and I/O */

typedef struct dp_io dp_io; /* io_packet.c: the socket of a port */
typedef struct {
    uint32_t number;
    dp_io *io; /* NULL: no interface */
    bool dirty; /* has frames to flush */
    bool lost; /* the interface has vanished; sends fail until it is back */
    bool watched; /* the interface reported an error and is not known to be up again */
    p4dp_stats_view stats;
    FILE *pcap;
    char *pcap_buffer;
    size_t pcap_used; /* of the buffer, at most */
} dp_port;

/* io_packet.c. Pieces must stay valid until dp_io_flush. */
dp_io *dp_io_open(const char *interface, bool xdp, char *message, size_t message_size);
bool dp_io_is_xdp(const dp_io *io);
bool dp_io_wants_xdp(const dp_io *io);
void dp_io_close(dp_io *io);
uint64_t dp_io_missed(dp_io *io); /* since the last call */
void dp_io_queue(p4dp_switch *sw, dp_port *port, const uint8_t *a, uint32_t a_length, const uint8_t *b, uint32_t b_length);
void dp_io_flush(p4dp_switch *sw, dp_port *port);

/* The data-plane thread (io_loop.c). */
typedef struct {
    pthread_t thread;
    bool running;
    atomic_bool stop;
    int epoll, wake, timer;
    uint64_t timer_ns; /* what the timer is set to, UINT64_MAX: off */
    uint64_t busy_poll_ns;
    uint64_t slept_ns, woken_ns; /* the latest sleep */
    int confidence; /* that polling pays */
    uint64_t shared_ns; /* how long others had the CPU while the thread polled, less what is forgiven */
    uint64_t retry_ns, pause_ns; /* no polling before, and how long the latest pause is: the CPU is shared */
    uint64_t turn_ns, waited_ns; /* when the thread last got the gate, and how long it had waited for it */
    uint32_t active[DP_PORTS], n_active; /* ports to look at while polling */
} dp_loop;

void dp_loop_arm(p4dp_switch *sw); /* wake the thread when the next packet leaves its queue */
void dp_loop_collect_missed(p4dp_switch *sw);
int dp_loop_attach(p4dp_switch *sw, dp_port *port);
void dp_loop_detach(p4dp_switch *sw, dp_port *port);

/* ----------------------------------------------------------------------------------------------- the switch */

typedef struct dp_output {
    struct dp_output *next;
    uint32_t port, length;
    uint8_t bytes[];
} dp_output;

/* What takes back the changes of tables since p4dp_begin, or of one p4dp_apply that is all or none (updates.c). */
typedef struct {
    struct dp_undo_record *records;
    uint32_t count, capacity;
    bool open; /* between p4dp_begin and p4dp_end */
} dp_undo_log;

/* A pass that is still to be made for the current packet. */
typedef struct dp_work {
    struct dp_work *next;
    bool egress;
    uint32_t depth, port, limit; /* limit: bytes the output is cut to */
    const uint8_t *packet; /* whole packet for ingress, payload for egress */
    uint32_t length;
    p4prog_standard_metadata sm;
    void *ctx;
} dp_work;

struct p4prog_env {
    bool tracing; /* first: p4prog_tracing looks at it */
    p4dp_switch *sw;
    const p4prog_program *program;
    dp_table *tables;
    uint32_t chosen; /* traces: the member that the last group gave */
    const char *marked; /* traces: where this pass last called mark_to_drop */
    uint64_t pass; /* number of the current pass through ingress or egress */
    uint32_t packet_length; /* of the current packet as it arrived, for meters */
    uint64_t now_ns, now_us; /* since the switch was made; taken once a batch */
    dp_extern *externs;
    dp_value_set *value_sets;
    void *ctx, *clone_ctx, *replica_ctx;
    uint64_t random[4];
    bool digest_pending;
    uint32_t digest;
    uint8_t *digest_data;
    void *library;
    int library_fd;
};

/* What a trace says in the end of a packet. */
#define DP_VERDICT_PORTS 64u
typedef struct {
    uint32_t outputs[DP_VERDICT_PORTS], queued[DP_VERDICT_PORTS]; /* ports, the first of them */
    uint32_t n_outputs, n_queued, n_drops;
    char reason[256]; /* of the last drop */
} dp_verdict;

struct p4dp_switch {
    dp_gate gate;
    p4prog_env *env; /* NULL: no program */
    uint64_t loads; /* programs so far */
    uint32_t cpu_port, drop_port;
    uint64_t seed, started_ns;
    dp_arena arena;
    dp_port *ports[DP_PORTS];
    dp_port *dirty[DP_PORTS]; /* ports with frames to flush */
    uint32_t n_dirty;
    bool collect; /* outputs without an interface go to the output list */
    bool discard; /* benchmark: outputs go nowhere */
    dp_output *out_head, *out_tail;
    uint32_t n_outputs;
    dp_work *work_head, *work_tail;
    uint32_t passes; /* caused by the current packet */
    p4dp_stats_view stats;
    uint64_t packets, packet; /* numbered for traces: how many, and the current one */
    dp_traffic traffic;
    bool manual_time; /* for tests: time is manual_ns and stands still */
    uint64_t manual_ns;
    dp_replicas **groups, **sessions;
    dp_undo_log undo;
    dp_loop loop;
    atomic_uint n_watched; /* ports to look at now and then */
    uint64_t next_check_ns;
    FILE *trace;
    bool trace_json;
    dp_verdict verdict;
    char *pcap_directory;
    uint64_t last_sweep_ns;
    atomic_bool idle_tables; /* the program has tables with idle timeouts */
    uint32_t logs;
    dp_events events;
};

/* switch.c */
uint64_t dp_now_ns(const p4dp_switch *sw); /* since the switch was made */
dp_port *dp_port_get(p4dp_switch *sw, uint32_t number); /* makes it; NULL: out of range or memory */
/* engine.c: one packet with all it causes; the bytes must stay valid until dp_engine_flush. */
void dp_engine_clock(p4dp_switch *sw);
void dp_engine_packet(p4dp_switch *sw, uint32_t port, const uint8_t *packet, uint32_t length);
void dp_engine_flush(p4dp_switch *sw);
/* Egress of a packet that left its queue, with all it causes. */
void dp_engine_egress(p4dp_switch *sw, void *ctx, p4prog_standard_metadata *sm, uint32_t port, const uint8_t *payload,
                      uint32_t payload_length, uint32_t limit, uint32_t depth);
/* Whatever is due leaves its queue, outside a batch; outputs without an interface are collected. */
void dp_engine_departures(p4dp_switch *sw);
/* program.c */
p4prog_env *dp_program_load(p4dp_switch *sw, const char *path, char *message, size_t message_size);
void dp_program_unload(p4prog_env *env);
/* updates.c */
bool dp_action_data_valid(const p4prog_action *action, const uint8_t *data);
int dp_updates_load_entries(p4prog_env *env, dp_table *t);
/* entries.c */
void dp_entries_sweep_idle(p4dp_switch *sw);
/* hashes.c */
uint64_t dp_hash(p4prog_env *env, p4prog_hash_algorithm algorithm, const uint8_t *data, uint32_t length);
/* trace.c and pcap.c; called only when asked for. A trace's format holds %u and %s, followed by the field's name in braces. */
void dp_trace_event(p4prog_env *env, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));
void dp_trace_output(p4prog_env *env, uint32_t port, uint32_t bytes);
void dp_trace_queued(p4prog_env *env, uint32_t port, uint32_t priority, uint32_t before);
void dp_trace_drop(p4prog_env *env, const char *format, ...) __attribute__((format(printf, 2, 3)));
void dp_trace_verdict(p4prog_env *env); /* and begin a new one */
void dp_trace_digest(p4prog_env *env, const p4prog_digest *digest, const uint8_t *message);
void dp_trace_lookup(p4prog_env *env, const dp_table *t, const uint8_t *key, uint32_t entry, const p4prog_match *match);
typedef enum { DP_INBOUND = 1, DP_OUTBOUND = 2 } dp_direction; /* as pcapng numbers them */
void dp_pcap_write(
    dp_port *port, dp_direction direction, const uint8_t *a, uint32_t a_length, const uint8_t *b, uint32_t b_length
);
bool dp_pcap_open(p4dp_switch *sw, dp_port *port);
void dp_pcap_close(p4dp_switch *sw);
void dp_trace_close(p4dp_switch *sw);
void dp_trace_flush(p4dp_switch *sw);

#endif

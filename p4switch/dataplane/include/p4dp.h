/* The control side of the runtime: everything the server, the tests and the STF runner can do with a switch.
 *
 * Read by cffi as it stands: plain C declarations, integer #defines, no other preprocessing. Functions return 0 or a positive result on success
 * and a negative P4DP_E... on failure; p4dp_error_text says what it means. Functions may be called from any thread;
 * a change is applied between two batches of packets. Key, mask, data and register bytes are in the
 * layout that p4prog.h describes.
 */

#define P4DP_ENOMEM -1
#define P4DP_EEXISTS -2 /* the entry, group or session is there already */
#define P4DP_ENOTFOUND -3
#define P4DP_EINVAL -4 /* an argument is out of range */
#define P4DP_EFULL -5 /* the table has reached its size */
#define P4DP_ECONST -6 /* const entries or a const default action */
#define P4DP_EIO -7 /* an interface could not be opened */
#define P4DP_ELOAD -8 /* the program's shared object could not be loaded or has another ABI */
#define P4DP_ESTATE -9 /* not in this state (running, no program, ...) */
#define P4DP_EINUSE -10 /* a member or group that an entry refers to */

typedef struct p4dp_switch p4dp_switch;

const char *p4dp_error_text(int code);

/* cpu_port: frames sent there become packet-in events, 0xffffffff for none. drop_port: v1model's 511. */
p4dp_switch *p4dp_create(uint32_t cpu_port, uint32_t drop_port, uint64_t random_seed);
void p4dp_destroy(p4dp_switch *sw);

/* Load a program and replace the running one between two batches; all table and extern state starts afresh, the replication
   state (groups, sessions) and the ports stay. `message` receives why it failed. */
int p4dp_load(p4dp_switch *sw, const char *shared_object, char *message, size_t message_size);

/* Take over the program of another switch with all its state between two batches; `from` is left without. P4DP_ESTATE when it has
   none. */
int p4dp_adopt(p4dp_switch *sw, p4dp_switch *from);

/* The loaded program's descriptor (a p4prog_program of p4prog.h), valid until the next p4dp_load; NULL when there is none. */
const void *p4dp_program(p4dp_switch *sw);

/* Packet I/O on network interfaces. xdp: on AF_XDP if that is possible. Returns 1 when it is used and 0 for AF_PACKET; `message` then
   says why, if AF_XDP was asked for. */
int p4dp_port_add(p4dp_switch *sw, uint32_t port, const char *interface, int xdp, char *message, size_t message_size);
int p4dp_port_remove(p4dp_switch *sw, uint32_t port);
/* How long the data-plane thread looks for more frames before it sleeps; 0 sleeps at once. It does so only while that pays: while
   frames keep coming within that time. */
int p4dp_busy_poll(p4dp_switch *sw, uint32_t microseconds);
int p4dp_start(p4dp_switch *sw);
int p4dp_stop(p4dp_switch *sw);

/* Without interfaces: run one packet through, to the end of everything it causes. Outputs are collected and read with
   p4dp_output_next: returns the length, or P4DP_ENOTFOUND when there is none, P4DP_EINVAL when capacity is too small.
   Also works while running on interfaces (then outputs to ports that have an interface go there). */
int p4dp_inject(p4dp_switch *sw, uint32_t port, const uint8_t *packet, uint32_t length);
int p4dp_output_next(p4dp_switch *sw, uint32_t *port, uint8_t *buffer, uint32_t capacity);

/* A frame from the controller: enters the pipeline on the CPU port. */
int p4dp_packet_out(p4dp_switch *sw, const uint8_t *packet, uint32_t length);

/* Queues between ingress and egress. There are none until a depth or rate is set; then a port has as many as there are priorities,
   64 packets deep. Port and priority P4DP_ALL: all. A rate is in packets a second (at most 10^9), 0 for unlimited: a queue's is
   bmv2's, each queue for itself; a port's is shared by its queues, the highest priority first. A packet whose priority has no
   queue is dropped, as by bmv2. */
#define P4DP_ALL 0xffffffff
int p4dp_queue_priorities(p4dp_switch *sw, uint32_t count); /* 1 (the default) to 8 */
int p4dp_queue_depth(p4dp_switch *sw, uint32_t port, uint32_t priority, uint32_t packets); /* at most 65536 */
int p4dp_queue_rate(p4dp_switch *sw, uint32_t port, uint32_t priority, uint64_t packets_per_second);
int p4dp_port_rate(p4dp_switch *sw, uint32_t port, uint64_t packets_per_second);
typedef struct {
    uint64_t rate, port_rate, enqueued, dropped;
    uint32_t depth, length, longest; /* packets: the most it may hold, holds now, has held */
} p4dp_queue_view;
int p4dp_queue_get(p4dp_switch *sw, uint32_t port, uint32_t priority, p4dp_queue_view *view); /* P4DP_ENOTFOUND: no queues */

/* For tests: from now on the switch's time (timestamps, rates, meters, idle timeouts) is this number of nanoseconds since it was
   made and stands still until the next call; packets whose time comes leave their queues. Not while running; never backwards. */
int p4dp_time_set(p4dp_switch *sw, uint64_t ns);

/* Tables. One update; a batch of them is applied as one. `handle` (out of insert) names an entry until it is deleted. */
typedef enum { P4DP_INSERT, P4DP_MODIFY, P4DP_DELETE, P4DP_SET_DEFAULT, P4DP_RESET_DEFAULT } p4dp_op;
typedef enum { P4DP_ACTION, P4DP_MEMBER, P4DP_GROUP } p4dp_entry_kind;
typedef struct {
    p4dp_op op;
    uint32_t table;
    const uint8_t *key; /* key_size bytes */
    const uint8_t *mask; /* key_size bytes: masks; for range fields the upper bound; all ones for exact and lpm prefixes as masks */
    int32_t priority; /* larger wins; 0 where the table has no ternary, range or optional key */
    p4dp_entry_kind kind;
    uint32_t action; /* action index, member id or group id */
    const uint8_t *data;
    uint64_t idle_timeout_ns; /* 0: never */
    uint64_t cookie; /* the caller's, returned in events and by p4dp_entry_get */
    int result; /* out */
    uint64_t handle; /* out of INSERT, MODIFY and DELETE */
} p4dp_update;
/* Applies the updates in order, up to 4,096 at a time between two batches of packets. all_or_none: all of them at a time, and on the
   first failure those before it are undone, results of the rest are P4DP_ESTATE. Returns the number that failed. */
int p4dp_apply(p4dp_switch *sw, p4dp_update *updates, uint32_t count, int all_or_none);

/* A transaction of one thread: no packet is processed between p4dp_begin and p4dp_end, and p4dp_undo takes back the changes of
   tables (all of them p4dp_apply's) since a mark. Other state is the caller's to put back, in reverse order. P4DP_ESTATE when
   there is no program or no transaction. */
int p4dp_begin(p4dp_switch *sw);
uint32_t p4dp_mark(const p4dp_switch *sw);
int p4dp_undo(p4dp_switch *sw, uint32_t mark);
int p4dp_end(p4dp_switch *sw);

typedef struct {
    uint64_t handle, cookie;
    const uint8_t *key, *mask, *data; /* valid until the next change of this table */
    int32_t priority;
    p4dp_entry_kind kind;
    uint32_t action;
    int is_const;
    uint64_t packets, bytes; /* direct counter */
    uint64_t idle_timeout_ns, since_hit_ns;
} p4dp_entry_view;
/* Iterate: pass 0 first, then the returned handle's entry's successor is found by passing the last handle. 0 entries left: P4DP_ENOTFOUND. */
int p4dp_entry_next(p4dp_switch *sw, uint32_t table, uint64_t after_handle, p4dp_entry_view *view);
int p4dp_entry_find(p4dp_switch *sw, const p4dp_update *which, p4dp_entry_view *view);
int p4dp_default_get(p4dp_switch *sw, uint32_t table, p4dp_entry_view *view);
uint64_t p4dp_entry_count(p4dp_switch *sw, uint32_t table);
uint64_t p4dp_table_bytes(p4dp_switch *sw, uint32_t table); /* memory, for reports */
int p4dp_direct_counter_set(p4dp_switch *sw, uint32_t table, uint64_t handle, uint64_t packets, uint64_t bytes);

/* Externs, by index into p4prog_program.externs. */
typedef struct { uint64_t cir, cburst, pir, pburst; int configured; } p4dp_meter_config;
int p4dp_counter_read(p4dp_switch *sw, uint32_t index, uint64_t cell, uint64_t *packets, uint64_t *bytes);
int p4dp_counter_write(p4dp_switch *sw, uint32_t index, uint64_t cell, uint64_t packets, uint64_t bytes);
int p4dp_meter_get(p4dp_switch *sw, uint32_t index, uint64_t cell, p4dp_meter_config *config);
int p4dp_meter_set(p4dp_switch *sw, uint32_t index, uint64_t cell, const p4dp_meter_config *config);
int p4dp_direct_meter_get(p4dp_switch *sw, uint32_t table, uint64_t handle, p4dp_meter_config *config);
int p4dp_direct_meter_set(p4dp_switch *sw, uint32_t table, uint64_t handle, const p4dp_meter_config *config);
int p4dp_register_read(p4dp_switch *sw, uint32_t index, uint64_t cell, uint8_t *value);
int p4dp_register_write(p4dp_switch *sw, uint32_t index, uint64_t cell, const uint8_t *value);

/* Action profiles and selectors, by extern index. */
int p4dp_member_set(p4dp_switch *sw, uint32_t index, uint32_t member, uint32_t action, const uint8_t *data, int must_exist);
int p4dp_member_delete(p4dp_switch *sw, uint32_t index, uint32_t member);
int p4dp_group_set(p4dp_switch *sw, uint32_t index, uint32_t group, const uint32_t *members, const uint32_t *weights,
                   uint32_t count, int must_exist);
int p4dp_group_delete(p4dp_switch *sw, uint32_t index, uint32_t group);

/* Parser value sets: replace all members. keys and masks: count * key_size bytes. */
int p4dp_value_set_write(p4dp_switch *sw, uint32_t index, const uint8_t *keys, const uint8_t *masks, uint32_t count);

/* Packet replication engine. */
typedef struct { uint32_t port; uint32_t instance; } p4dp_replica;
int p4dp_multicast_set(p4dp_switch *sw, uint32_t group, const p4dp_replica *replicas, uint32_t count, int must_exist);
int p4dp_multicast_delete(p4dp_switch *sw, uint32_t group);
int p4dp_clone_session_set(p4dp_switch *sw, uint32_t session, const p4dp_replica *replicas, uint32_t count,
                           uint32_t truncate_length, int must_exist);
int p4dp_clone_session_delete(p4dp_switch *sw, uint32_t session);

/* Events for the controller. p4dp_event_wait blocks up to timeout_ms for the next and copies it to buffer; returns its length.
   Events that find the queue full are counted as lost (p4dp_stats). */
#define P4DP_EVENT_PACKET_IN 1
#define P4DP_EVENT_DIGEST 2
#define P4DP_EVENT_IDLE_TIMEOUT 3
typedef struct {
    uint32_t kind;
    uint32_t index; /* digest or table */
    uint32_t length; /* of its bytes, also when they do not fit into the buffer (P4DP_EINVAL; the event then stays queued) */
    uint64_t cookie, handle; /* idle timeout */
    uint64_t timestamp_ns;
} p4dp_event;
int p4dp_event_wait(p4dp_switch *sw, int timeout_ms, p4dp_event *event, uint8_t *buffer, uint32_t capacity);
void p4dp_event_wake(p4dp_switch *sw); /* make a waiting p4dp_event_wait return P4DP_ENOTFOUND at once */

typedef struct {
    uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes, tx_drops;
    uint64_t dropped, parser_errors, events_lost, rx_oversized, loops_cut;
    uint64_t rx_missed; /* frames that arrived while the receive ring was full */
    uint64_t queue_drops; /* packets that found their queue full, or none of their priority */
} p4dp_stats_view;
int p4dp_stats(p4dp_switch *sw, p4dp_stats_view *stats);
int p4dp_port_stats(p4dp_switch *sw, uint32_t port, p4dp_stats_view *stats);

/* Trace of every packet to a file, for people or (json) one object a line; NULL to stop. Pcaps of every port into a directory, NULL to
   stop. */
int p4dp_trace(p4dp_switch *sw, const char *file, int json);
int p4dp_pcap(p4dp_switch *sw, const char *directory);

/* Names to indices: -1 when absent. kind: 0 table, 1 action, 2 extern, 3 digest, 4 value set. */
int p4dp_index(p4dp_switch *sw, int kind, const char *name);

/* Benchmark: run `rounds` packets through parse, ingress, egress and deparse without I/O; returns nanoseconds. They are taken in turn
   from `count` packets of `lengths`, one after the other in `packets`. */
int64_t p4dp_bench(p4dp_switch *sw, uint32_t port, const uint8_t *packets, const uint32_t *lengths, uint32_t count, uint64_t rounds);

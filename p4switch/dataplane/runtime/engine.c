/* One packet from parser to output, with v1model's order of effects as bmv2's simple_switch has it.
 *
 * End of ingress: clone, digest, resubmit, multicast, drop, unicast. End of egress: clone, drop, deparse, recirculate. Passes that
 * are made later (resubmit, recirculate, egress clones) queue up behind the current one; a bound on them turns a program that
 * loops for ever into a counted drop.
 */
#include "internal.h"

#include <stdlib.h>

#define NO_LIMIT UINT32_MAX
#define MAX_OUTPUTS 65536u

static inline uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

void dp_engine_clock(p4dp_switch *sw) {
    sw->env->now_ns = dp_now_ns(sw);
    sw->env->now_us = sw->env->now_ns / 1000;
}

/* ------------------------------------------------------------------------------------------------ outputs */

static void collect(p4dp_switch *sw, uint32_t port, const uint8_t *a, uint32_t a_length, const uint8_t *b, uint32_t b_length) {
    dp_output *output = sw->n_outputs < MAX_OUTPUTS ? malloc(sizeof *output + a_length + b_length) : NULL;
    if (output == NULL) {
        sw->stats.tx_drops++;
        return;
    }
    *output = (dp_output){.port = port, .length = a_length + b_length};
    if (a_length > 0) memcpy(output->bytes, a, a_length);
    if (b_length > 0) memcpy(output->bytes + a_length, b, b_length);
    if (sw->out_tail != NULL)
        sw->out_tail->next = output;
    else
        sw->out_head = output;
    sw->out_tail = output;
    sw->n_outputs++;
}

static void emit(p4dp_switch *sw, uint32_t number, const uint8_t *header, uint32_t header_length, const uint8_t *payload,
                 uint32_t payload_length, uint32_t limit) {
    if (UNLIKELY(sw->discard)) return;
    header_length = smaller(header_length, limit);
    payload_length = smaller(payload_length, limit - header_length);
    uint32_t length = header_length + payload_length;
    if (UNLIKELY(sw->env->tracing)) dp_trace_output(sw->env, number, length);

    dp_port *port = LIKELY(number < DP_PORTS) ? sw->ports[number] : NULL;
    if (number == sw->cpu_port) {
        p4dp_event event = {.kind = P4DP_EVENT_PACKET_IN, .timestamp_ns = dp_realtime_ns()};
        dp_event_push(&sw->events, &event, header, header_length, payload, payload_length);
    } else if (LIKELY(port != NULL && port->io != NULL)) {
        if (UNLIKELY(port->pcap != NULL)) dp_pcap_write(port, DP_OUTBOUND, header, header_length, payload, payload_length);
        if (!port->dirty) {
            port->dirty = true;
            sw->dirty[sw->n_dirty++] = port;
        }
        dp_io_queue(sw, port, header, header_length, payload, payload_length);
        return; /* counted when the kernel has taken it */
    } else if (sw->collect) {
        collect(sw, number, header, header_length, payload, payload_length);
        port = dp_port_get(sw, number);
    } else {
        sw->stats.tx_drops++;
        if (sw->env->tracing) {
            sw->verdict.n_outputs--;
            dp_trace_drop(sw->env, "port %u has no interface", number);
        }
        return;
    }
    sw->stats.tx_packets++;
    sw->stats.tx_bytes += length;
    if (port == NULL) return;
    port->stats.tx_packets++;
    port->stats.tx_bytes += length;
    if (UNLIKELY(port->pcap != NULL)) dp_pcap_write(port, DP_OUTBOUND, header, header_length, payload, payload_length);
}

void dp_engine_flush(p4dp_switch *sw) {
    for (uint32_t i = 0; i < sw->n_dirty; i++) {
        dp_io_flush(sw, sw->dirty[i]);
        sw->dirty[i]->dirty = false;
    }
    sw->n_dirty = 0;
    if (UNLIKELY(sw->traffic.in_use)) {
        dp_queues_free_spent(sw);
        dp_loop_arm(sw);
    }
    dp_arena_reset(&sw->arena);
}

/* -------------------------------------------------------------------------------------------- later passes */

/* Room for a pass made later, or NULL when this packet has caused too many. The ctx is the caller's to fill. */
static dp_work *later(p4dp_switch *sw, uint32_t depth, const char *what) {
    if (depth > DP_MAX_DEPTH || sw->passes >= DP_MAX_PASSES) {
        sw->stats.loops_cut++;
        if (sw->env->tracing) dp_trace_drop(sw->env, "%s cut after %u passes in a row, %u in all", what, depth - 1, sw->passes);
        return NULL;
    }
    dp_work *work = dp_arena_alloc(&sw->arena, sizeof *work);
    void *ctx = dp_arena_alloc(&sw->arena, sw->env->program->ctx_size);
    if (work == NULL || ctx == NULL) {
        sw->stats.dropped++;
        return NULL;
    }
    *work = (dp_work){.depth = depth, .limit = NO_LIMIT, .ctx = ctx};
    sw->passes++;
    if (sw->work_tail != NULL)
        sw->work_tail->next = work;
    else
        sw->work_head = work;
    sw->work_tail = work;
    return work;
}

/* Metadata of a packet that starts over: nothing but the field list, the instance type and the length survive. */
static void restart_metadata(p4dp_switch *sw, uint32_t instance_type, uint32_t field_list, const void *ctx,
                             const p4prog_standard_metadata *sm, uint32_t length, void *new_ctx, p4prog_standard_metadata *new_sm) {
    const p4prog_program *program = sw->env->program;
    *new_sm = (p4prog_standard_metadata){0};
    if (program->reset_metadata != NULL) program->reset_metadata(new_ctx);
    if (field_list != 0) program->copy_field_list(field_list, ctx, sm, new_ctx, new_sm);
    new_sm->instance_type = instance_type;
    new_sm->packet_length = length;
}

static void start_over(p4dp_switch *sw, uint32_t instance_type, uint32_t field_list, const void *ctx,
                       const p4prog_standard_metadata *sm, const uint8_t *packet, uint32_t length, uint32_t depth) {
    dp_work *work = later(sw, depth + 1, instance_type == P4PROG_RESUBMIT ? "resubmit" : "recirculate");
    if (work == NULL) return;
    memset(work->ctx, 0, sw->env->program->ctx_size);
    restart_metadata(sw, instance_type, field_list, ctx, sm, length, work->ctx, &work->sm);
    work->packet = packet;
    work->length = length;
}

static const dp_replicas *session_of(p4dp_switch *sw, uint32_t session) {
    const dp_replicas *replicas = session < DP_GROUPS ? sw->sessions[session] : NULL;
    if (UNLIKELY(sw->env->tracing)) {
        if (replicas == NULL)
            dp_trace_event(sw->env, "clone", "session %u{session} is not configured: no clone", session);
        else
            dp_trace_event(sw->env, "clone", "to session %u{session}, %u{replicas} replicas", session, replicas->count);
    }
    return replicas;
}

static uint32_t session_limit(const dp_replicas *session) { return session->truncate_length == 0 ? NO_LIMIT : session->truncate_length; }

static inline void send_digest(p4prog_env *env) {
    if (LIKELY(!env->digest_pending)) return;
    env->digest_pending = false;
    p4dp_event event = {.kind = P4DP_EVENT_DIGEST, .index = env->digest, .timestamp_ns = dp_realtime_ns()};
    dp_event_push(&env->sw->events, &event, env->digest_data, env->program->digests[env->digest].size, NULL, 0);
    if (env->tracing) dp_trace_digest(env, &env->program->digests[env->digest], env->digest_data);
}

/* --------------------------------------------------------------------------------------------------- stages */

static NOINLINE void trace_drop_at(p4prog_env *env, const char *stage) {
    const char *where = env->marked != NULL ? ", mark_to_drop at " : ", no mark_to_drop";
    dp_trace_drop(env, "egress_spec is %u at the end of %s%s%s", env->sw->drop_port, stage, where, env->marked != NULL ? env->marked : "");
}

static void egress_pass(p4dp_switch *sw, void *ctx, p4prog_standard_metadata *sm, uint32_t port, const uint8_t *payload,
                        uint32_t payload_length, uint32_t limit, uint32_t depth) {
    p4prog_env *env = sw->env;
    const p4prog_program *program = env->program;
    p4prog_requests requests = {0};

    env->pass++;
    env->packet_length = sm->packet_length;
    sm->egress_port = port;
    sm->egress_spec = (sw->drop_port + 1) & (DP_PORTS - 1); /* anything but the drop port; bmv2's choice */
    sm->egress_global_timestamp = env->now_us;
    if (UNLIKELY(env->tracing)) {
        env->marked = NULL;
        dp_trace_event(env, "egress", "for port %u{port}, instance type %u{instance_type}", port, sm->instance_type);
    }
    program->egress(env, ctx, sm, &requests);
    send_digest(env);
    if (UNLIKELY(requests.has_truncate)) limit = smaller(limit, requests.truncate_length);

    if (UNLIKELY(requests.clone)) {
        const dp_replicas *session = session_of(sw, requests.clone_session);
        for (uint32_t i = 0; session != NULL && i < session->count; i++) {
            dp_work *work = later(sw, depth + 1, "egress clone");
            if (work == NULL) break;
            memcpy(work->ctx, ctx, program->ctx_size);
            restart_metadata(sw, P4PROG_E2E_CLONE, requests.clone_field_list, ctx, sm, sm->packet_length, work->ctx, &work->sm);
            work->sm.egress_rid = session->replicas[i].instance;
            work->egress = true;
            work->port = session->replicas[i].port;
            work->limit = session_limit(session);
            work->packet = payload;
            work->length = payload_length;
        }
    }
    if (sm->egress_spec == sw->drop_port) {
        sw->stats.dropped++;
        if (UNLIKELY(env->tracing)) trace_drop_at(env, "egress");
        return;
    }
    uint8_t *header = dp_arena_alloc(&sw->arena, program->max_header_bytes + 1u);
    if (UNLIKELY(header == NULL)) {
        sw->stats.dropped++;
        return;
    }
    uint32_t header_length = program->deparse(env, ctx, sm, payload, payload_length, header);
    dp_arena_trim(&sw->arena, header, header_length);

    if (UNLIKELY(requests.recirculate)) {
        uint32_t kept = smaller(header_length, limit), rest = smaller(payload_length, limit - kept);
        uint8_t *packet = dp_arena_alloc(&sw->arena, (size_t)kept + rest + 1);
        if (packet == NULL) {
            sw->stats.dropped++;
            return;
        }
        memcpy(packet, header, kept);
        if (rest > 0) memcpy(packet + kept, payload, rest);
        if (UNLIKELY(env->tracing)) dp_trace_event(env, "recirculate", "%u{bytes} bytes", kept + rest);
        start_over(sw, P4PROG_RECIRC, requests.recirculate_field_list, ctx, sm, packet, kept + rest, depth);
        return;
    }
    if (UNLIKELY(env->tracing && header_length + payload_length > limit)) dp_trace_event(env, "truncate", "to %u{bytes} bytes", limit);
    emit(sw, port, header, header_length, payload, payload_length, limit);
}

/* From ingress to egress, through a queue where the port has any. */
static inline void enqueue(p4dp_switch *sw, void *ctx, p4prog_standard_metadata *sm, uint32_t port, const uint8_t *payload,
                           uint32_t payload_length, uint32_t limit, uint32_t depth) {
    if (UNLIKELY(sm->priority >= sw->traffic.priorities)) {
        dp_queue_refuse(sw, port, sm->priority);
        return;
    }
    sm->enq_timestamp = (uint32_t)sw->env->now_us;
    sm->enq_qdepth = sm->deq_timedelta = sm->deq_qdepth = 0;
    sm->qid = sm->priority;
    if (UNLIKELY(sw->traffic.in_use) && dp_queue_take(sw, ctx, sm, port, payload, payload_length, limit, depth)) return;
    egress_pass(sw, ctx, sm, port, payload, payload_length, limit, depth);
}

/* Egress of each replica; `ctx` and `sm` stay as they are. */
static void replicate(p4dp_switch *sw, const dp_replicas *replicas, const void *ctx, const p4prog_standard_metadata *sm,
                      const uint8_t *payload, uint32_t payload_length, uint32_t limit, uint32_t depth) {
    for (uint32_t i = 0; i < replicas->count; i++) {
        p4prog_standard_metadata copy = *sm;
        copy.egress_rid = replicas->replicas[i].instance;
        memcpy(sw->env->replica_ctx, ctx, sw->env->program->ctx_size);
        enqueue(sw, sw->env->replica_ctx, &copy, replicas->replicas[i].port, payload, payload_length, limit, depth);
    }
}

static inline uint32_t parse(p4prog_env *env, void *ctx, p4prog_standard_metadata *sm, const uint8_t *packet, uint32_t length) {
    uint32_t consumed = env->program->parse(env, ctx, sm, packet, length);
    return consumed <= length ? consumed : length;
}

static NOINLINE void clone_ingress(p4dp_switch *sw, const p4prog_requests *requests, const p4prog_standard_metadata *sm,
                                   uint32_t ingress_port, const uint8_t *packet, uint32_t length, uint32_t depth) {
    const dp_replicas *session = session_of(sw, requests->clone_session);
    if (session == NULL) return;
    p4prog_env *env = sw->env;
    /* The original packet is parsed again; then everything but its headers is forgotten. */
    if (UNLIKELY(env->tracing)) dp_trace_event(env, "clone", "of the original packet: it is parsed again");
    p4prog_standard_metadata clone = {.ingress_port = ingress_port, .packet_length = length};
    uint32_t consumed = parse(env, env->clone_ctx, &clone, packet, length);
    restart_metadata(sw, P4PROG_I2E_CLONE, requests->clone_field_list, env->ctx, sm, length, env->clone_ctx, &clone);
    replicate(sw, session, env->clone_ctx, &clone, packet + consumed, length - consumed, session_limit(session), depth);
}

static void ingress_pass(p4dp_switch *sw, p4prog_standard_metadata *sm, const uint8_t *packet, uint32_t length, uint32_t depth) {
    p4prog_env *env = sw->env;
    const p4prog_program *program = env->program;
    p4prog_requests requests = {0};
    uint32_t ingress_port = sm->ingress_port;

    env->pass++;
    env->packet_length = length;
    env->marked = NULL;
    uint32_t consumed = parse(env, env->ctx, sm, packet, length);
    if (UNLIKELY(sm->parser_error != 0)) {
        sw->stats.parser_errors++;
        if (env->tracing)
            dp_trace_event(env, "parser_error", "%s{error}",
                           sm->parser_error < program->n_errors ? program->errors[sm->parser_error] : "(unknown)");
    }
    program->ingress(env, env->ctx, sm, &requests);

    /* bmv2 only queues the clone before it sends the digest; here its egress runs at once and may send a digest of its own. */
    send_digest(env);
    if (UNLIKELY(requests.clone)) clone_ingress(sw, &requests, sm, ingress_port, packet, length, depth);
    if (UNLIKELY(requests.resubmit)) {
        if (env->tracing) dp_trace_event(env, "resubmit", "%u{bytes} bytes", length);
        start_over(sw, P4PROG_RESUBMIT, requests.resubmit_field_list, env->ctx, sm, packet, length, depth);
        return;
    }
    uint32_t limit = requests.has_truncate ? requests.truncate_length : NO_LIMIT;
    if (UNLIKELY(sm->mcast_grp != 0)) {
        const dp_replicas *group = sm->mcast_grp < DP_GROUPS ? sw->groups[sm->mcast_grp] : NULL;
        if (group == NULL || group->count == 0) {
            sw->stats.dropped++;
            if (env->tracing) dp_trace_drop(env, "multicast group %u has no members", sm->mcast_grp);
            return;
        }
        if (env->tracing) dp_trace_event(env, "multicast", "group %u{group}, %u{replicas} replicas", sm->mcast_grp, group->count);
        sm->instance_type = P4PROG_REPLICATION;
        replicate(sw, group, env->ctx, sm, packet + consumed, length - consumed, limit, depth);
        return;
    }
    if (UNLIKELY(sm->egress_spec == sw->drop_port)) {
        sw->stats.dropped++;
        if (env->tracing) trace_drop_at(env, "ingress");
        return;
    }
    sm->instance_type = P4PROG_NORMAL;
    enqueue(sw, env->ctx, sm, sm->egress_spec, packet + consumed, length - consumed, limit, depth);
}

static NOINLINE void run_later_passes(p4dp_switch *sw) {
    while (sw->work_head != NULL) {
        dp_work *work = sw->work_head;
        sw->work_head = work->next;
        if (sw->work_head == NULL) sw->work_tail = NULL;
        if (work->egress) {
            enqueue(sw, work->ctx, &work->sm, work->port, work->packet, work->length, work->limit, work->depth);
        } else {
            memcpy(sw->env->ctx, work->ctx, sw->env->program->ctx_size);
            ingress_pass(sw, &work->sm, work->packet, work->length, work->depth);
        }
    }
}

void dp_engine_packet(p4dp_switch *sw, uint32_t number, const uint8_t *packet, uint32_t length) {
    p4prog_env *env = sw->env;
    dp_port *port = number < DP_PORTS ? sw->ports[number] : NULL;
    sw->packet = ++sw->packets;
    sw->stats.rx_packets++;
    sw->stats.rx_bytes += length;
    if (LIKELY(port != NULL)) {
        port->stats.rx_packets++;
        port->stats.rx_bytes += length;
        if (UNLIKELY(port->pcap != NULL)) dp_pcap_write(port, DP_INBOUND, packet, length, NULL, 0);
    }
    if (UNLIKELY(env->tracing)) dp_trace_event(env, "received", "on port %u{port}, %u{bytes} bytes", number, length);

    p4prog_standard_metadata sm = {.ingress_port = number, .packet_length = length, .ingress_global_timestamp = env->now_us};
    sw->passes = 0;
    ingress_pass(sw, &sm, packet, length, 0);
    if (UNLIKELY(sw->work_head != NULL)) run_later_passes(sw);
    if (UNLIKELY(env->tracing)) dp_trace_verdict(env);
    if (UNLIKELY(sw->traffic.waiting != 0)) dp_queues_serve(sw, UINT32_MAX);
}

void dp_engine_egress(p4dp_switch *sw, void *ctx, p4prog_standard_metadata *sm, uint32_t port, const uint8_t *payload,
                      uint32_t payload_length, uint32_t limit, uint32_t depth) {
    egress_pass(sw, ctx, sm, port, payload, payload_length, limit, depth);
    if (UNLIKELY(sw->work_head != NULL)) run_later_passes(sw);
    if (UNLIKELY(sw->env->tracing)) dp_trace_verdict(sw->env);
}

void dp_engine_departures(p4dp_switch *sw) {
    if (sw->env == NULL || sw->traffic.waiting == 0) return;
    dp_engine_clock(sw);
    sw->collect = !sw->loop.running;
    dp_queues_serve(sw, UINT32_MAX);
    dp_engine_flush(sw);
    sw->collect = false;
}

/* The traffic manager between ingress and egress: for each port up to eight priority queues, each with a depth and a rate.
 *
 * As in bmv2's simple_switch a packet is given the time at which it may leave when it is queued (the queue's rate spaces these
 * times), a full queue drops at its tail, and the highest priority whose time has come is served first. On top of that a port may
 * have a rate of its own, which its queues share in strict priority. A port that nobody configured has no queues: its packets go
 * straight to egress, and that path costs one test.
 */
#include "internal.h"

#include <stdlib.h>

#define NEVER UINT64_MAX
#define SECOND 1000000000u

struct dp_waiting {
    dp_waiting *next;
    uint64_t due_ns; /* when its queue's rate lets it leave */
    uint64_t number; /* of the packet, for traces */
    uint32_t length, limit, depth;
    uint32_t passes; /* that its packet had caused when it was queued */
    p4prog_standard_metadata sm;
    uint8_t *payload;
    _Alignas(64) uint8_t ctx[];
};

typedef struct {
    dp_waiting *head, *tail;
    uint32_t depth, length, longest;
    uint64_t rate; /* packets a second, 0: unlimited */
    uint64_t last_due_ns, enqueued, dropped;
} dp_queue;

struct dp_port_queues {
    dp_queue queues[DP_PRIORITIES];
    uint64_t rate, free_ns; /* of the port: packets a second, and when the next may leave */
    uint64_t next_ns; /* when the next packet leaves, NEVER when none waits */
};

static uint64_t interval_ns(uint64_t rate) { return rate == 0 ? 0 : SECOND / rate; }

/* The queues of a port, made when first needed; NULL: the port has none (or out of memory). */
static dp_port_queues *queues_of(p4dp_switch *sw, uint32_t port, bool make) {
    dp_port_queues *queues = sw->traffic.ports[port];
    if (queues != NULL || !make) return queues;
    queues = calloc(1, sizeof *queues);
    if (queues == NULL) return NULL;
    for (uint32_t i = 0; i < DP_PRIORITIES; i++) {
        queues->queues[i].depth = sw->traffic.depth;
        queues->queues[i].rate = sw->traffic.rate;
    }
    queues->rate = sw->traffic.port_rate;
    queues->next_ns = NEVER;
    return sw->traffic.ports[port] = queues;
}

/* When the port's next packet leaves. Strict priority: of the packets whose time has come by then the one of the highest queue. */
static uint64_t next_departure(const dp_port_queues *port) {
    uint64_t first = NEVER;
    for (uint32_t i = 0; i < DP_PRIORITIES; i++)
        if (port->queues[i].head != NULL && port->queues[i].head->due_ns < first) first = port->queues[i].head->due_ns;
    return first == NEVER ? NEVER : first > port->free_ns ? first : port->free_ns;
}

static void count_drop(p4dp_switch *sw, uint32_t number) {
    sw->stats.queue_drops++;
    if (number < DP_PORTS && sw->ports[number] != NULL) sw->ports[number]->stats.queue_drops++;
}

void dp_queue_refuse(p4dp_switch *sw, uint32_t port, uint32_t priority) {
    count_drop(sw, port);
    if (sw->env->tracing)
        dp_trace_drop(sw->env, "priority %u has no queue, there %s %u (option priority-queues)", priority, sw->traffic.priorities == 1 ? "is" : "are",
                      sw->traffic.priorities);
}

bool dp_queue_take(p4dp_switch *sw, const void *ctx, const p4prog_standard_metadata *sm, uint32_t number, const uint8_t *payload,
                   uint32_t length, uint32_t limit, uint32_t depth) {
    dp_port_queues *port = number < DP_PORTS ? queues_of(sw, number, sw->traffic.defaults) : NULL;
    if (port == NULL) return false;
    p4prog_env *env = sw->env;
    dp_queue *queue = &port->queues[sm->priority];
    size_t ctx_size = dp_align(env->program->ctx_size, 64);
    dp_waiting *item =
        queue->length < queue->depth ? aligned_alloc(64, dp_align(sizeof *item + ctx_size + length, 64)) : NULL;
    if (item == NULL) {
        queue->dropped++;
        count_drop(sw, number);
        if (env->tracing) dp_trace_drop(env, "queue %u of port %u is full, depth %u", sm->priority, number, queue->depth);
        return true;
    }
    *item = (dp_waiting){.number = sw->packet, .length = length, .limit = limit, .depth = depth, .passes = sw->passes, .sm = *sm};
    item->sm.enq_qdepth = queue->length;
    item->payload = item->ctx + ctx_size;
    memcpy(item->ctx, ctx, env->program->ctx_size);
    if (length > 0) memcpy(item->payload, payload, length);
    uint64_t earliest = queue->enqueued == 0 ? 0 : queue->last_due_ns + interval_ns(queue->rate);
    item->due_ns = queue->last_due_ns = env->now_ns > earliest ? env->now_ns : earliest;
    if (queue->tail != NULL)
        queue->tail->next = item;
    else
        queue->head = item;
    queue->tail = item;
    queue->enqueued++;
    if (++queue->length > queue->longest) queue->longest = queue->length;
    sw->traffic.waiting++;
    if (port->next_ns == NEVER) sw->traffic.active[sw->traffic.n_active++] = (uint16_t)number;
    port->next_ns = next_departure(port);
    if (env->tracing) dp_trace_queued(env, number, sm->priority, item->sm.enq_qdepth);
    return true;
}

/* Take the packet that leaves next out of its queue, if its time has come. */
static dp_waiting *dequeue(p4dp_switch *sw, uint32_t *number) {
    dp_traffic *traffic = &sw->traffic;
    uint32_t chosen = 0;
    uint64_t when = NEVER;
    for (uint32_t i = 0; i < traffic->n_active; i++) {
        uint64_t next = traffic->ports[traffic->active[i]]->next_ns;
        if (next < when) {
            when = next;
            chosen = i;
        }
    }
    if (when == NEVER || when > sw->env->now_ns) return NULL;
    *number = traffic->active[chosen];
    dp_port_queues *port = traffic->ports[*number];
    uint32_t priority = DP_PRIORITIES - 1;
    while (port->queues[priority].head == NULL || port->queues[priority].head->due_ns > when) priority--;
    dp_queue *queue = &port->queues[priority];
    dp_waiting *item = queue->head;
    queue->head = item->next;
    if (queue->head == NULL) queue->tail = NULL;
    queue->length--;
    traffic->waiting--;
    port->free_ns = when + interval_ns(port->rate);
    port->next_ns = next_departure(port);
    if (port->next_ns == NEVER) traffic->active[chosen] = traffic->active[--traffic->n_active];
    item->sm.deq_timedelta = (uint32_t)sw->env->now_us - item->sm.enq_timestamp;
    item->sm.deq_qdepth = queue->length;
    item->sm.qid = priority;
    return item;
}

bool dp_queues_serve(p4dp_switch *sw, uint32_t limit) {
    for (uint32_t served = 0; sw->traffic.waiting != 0; served++) {
        if (served == limit) return true;
        uint32_t port;
        dp_waiting *item = dequeue(sw, &port);
        if (item == NULL) break;
        /* Its bytes are sent from where they lie: they are freed when the batch has been flushed. */
        item->next = sw->traffic.spent;
        sw->traffic.spent = item;
        /* What one packet may cause has a bound, also when it goes through queues again and again. */
        if (sw->packet != item->number) sw->passes = item->passes;
        sw->packet = item->number;
        dp_engine_egress(sw, item->ctx, &item->sm, port, item->payload, item->length, item->limit, item->depth);
    }
    return false;
}

uint64_t dp_queues_next(const p4dp_switch *sw) {
    uint64_t when = NEVER;
    for (uint32_t i = 0; sw->traffic.waiting != 0 && i < sw->traffic.n_active; i++) {
        uint64_t next = sw->traffic.ports[sw->traffic.active[i]]->next_ns;
        if (next < when) when = next;
    }
    return when;
}

void dp_queues_free_spent(p4dp_switch *sw) {
    while (sw->traffic.spent != NULL) {
        dp_waiting *item = sw->traffic.spent;
        sw->traffic.spent = item->next;
        free(item);
    }
}

void dp_queues_empty(p4dp_switch *sw) {
    for (uint32_t number = 0; number < DP_PORTS; number++) {
        dp_port_queues *port = sw->traffic.ports[number];
        for (uint32_t i = 0; port != NULL && i < DP_PRIORITIES; i++) {
            dp_queue *queue = &port->queues[i];
            while (queue->head != NULL) {
                dp_waiting *item = queue->head;
                queue->head = item->next;
                queue->dropped++;
                count_drop(sw, number);
                free(item);
            }
            queue->tail = NULL;
            queue->length = 0;
        }
        if (port != NULL) port->next_ns = NEVER;
    }
    sw->traffic.waiting = sw->traffic.n_active = 0;
}

void dp_queues_free(p4dp_switch *sw) {
    dp_queues_empty(sw);
    dp_queues_free_spent(sw);
    for (uint32_t number = 0; number < DP_PORTS; number++) free(sw->traffic.ports[number]);
}

/* ------------------------------------------------------------------------------- called by the control side */

int p4dp_queue_priorities(p4dp_switch *sw, uint32_t count) {
    if (count < 1 || count > DP_PRIORITIES) return P4DP_EINVAL;
    dp_gate_enter(&sw->gate);
    sw->traffic.priorities = count;
    dp_gate_leave(&sw->gate);
    return 0;
}

typedef enum { DEPTH, RATE, PORT_RATE } setting;

static void set_one(dp_port_queues *port, uint32_t priority, setting what, uint64_t value) {
    if (what == PORT_RATE) port->rate = value;
    for (uint32_t i = 0; i < DP_PRIORITIES; i++) {
        if (priority != P4DP_ALL && i != priority) continue;
        if (what == DEPTH) port->queues[i].depth = (uint32_t)value;
        if (what == RATE) port->queues[i].rate = value;
    }
}

static int configure(p4dp_switch *sw, uint32_t number, uint32_t priority, setting what, uint64_t value) {
    if ((number != P4DP_ALL && number >= DP_PORTS) || (priority != P4DP_ALL && priority >= DP_PRIORITIES)) return P4DP_EINVAL;
    if (value > (what == DEPTH ? DP_MAX_QUEUE_DEPTH : SECOND)) return P4DP_EINVAL;
    int result = 0;
    dp_gate_enter(&sw->gate);
    if (number != P4DP_ALL) {
        dp_port_queues *port = queues_of(sw, number, true);
        if (port != NULL)
            set_one(port, priority, what, value);
        else
            result = P4DP_ENOMEM;
    } else if (priority != P4DP_ALL) {
        for (uint32_t i = 0; i < DP_PORTS && result == 0; i++) {
            dp_port_queues *port = queues_of(sw, i, true);
            if (port != NULL)
                set_one(port, priority, what, value);
            else
                result = P4DP_ENOMEM;
        }
    } else {
        for (uint32_t i = 0; i < DP_PORTS; i++)
            if (sw->traffic.ports[i] != NULL) set_one(sw->traffic.ports[i], priority, what, value);
        if (what == DEPTH) sw->traffic.depth = (uint32_t)value;
        if (what == RATE) sw->traffic.rate = value;
        if (what == PORT_RATE) sw->traffic.port_rate = value;
        sw->traffic.defaults = true;
    }
    sw->traffic.in_use = true;
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_queue_depth(p4dp_switch *sw, uint32_t port, uint32_t priority, uint32_t packets) {
    return configure(sw, port, priority, DEPTH, packets);
}

int p4dp_queue_rate(p4dp_switch *sw, uint32_t port, uint32_t priority, uint64_t packets_per_second) {
    return configure(sw, port, priority, RATE, packets_per_second);
}

int p4dp_port_rate(p4dp_switch *sw, uint32_t port, uint64_t packets_per_second) {
    return configure(sw, port, P4DP_ALL, PORT_RATE, packets_per_second);
}

int p4dp_queue_get(p4dp_switch *sw, uint32_t number, uint32_t priority, p4dp_queue_view *view) {
    if (number >= DP_PORTS || priority >= DP_PRIORITIES) return P4DP_EINVAL;
    dp_gate_enter(&sw->gate);
    const dp_port_queues *port = sw->traffic.ports[number];
    if (port != NULL) {
        const dp_queue *queue = &port->queues[priority];
        *view = (p4dp_queue_view){.rate = queue->rate, .port_rate = port->rate, .depth = queue->depth, .length = queue->length,
                                  .longest = queue->longest, .enqueued = queue->enqueued, .dropped = queue->dropped};
    }
    dp_gate_leave(&sw->gate);
    return port == NULL ? P4DP_ENOTFOUND : 0;
}

int p4dp_time_set(p4dp_switch *sw, uint64_t ns) {
    dp_gate_enter(&sw->gate);
    int result = sw->loop.running ? P4DP_ESTATE : ns == NEVER || (sw->manual_time && ns < sw->manual_ns) ? P4DP_EINVAL : 0;
    if (result == 0) {
        sw->manual_time = true;
        sw->manual_ns = ns;
        dp_engine_departures(sw);
    }
    dp_gate_leave(&sw->gate);
    return result;
}

/* Making and destroying a switch, loading programs into it, running single packets, statistics, names. */
#include "internal.h"

#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t dp_monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
uint64_t dp_realtime_ns(void) { return clock_ns(CLOCK_REALTIME); }

uint64_t dp_now_ns(const p4dp_switch *sw) { return sw->manual_time ? sw->manual_ns : dp_monotonic_ns() - sw->started_ns; }

const char *p4dp_error_text(int code) {
    switch (code) {
    case P4DP_ENOMEM: return "out of memory";
    case P4DP_EEXISTS: return "it exists already";
    case P4DP_ENOTFOUND: return "there is none";
    case P4DP_EINVAL: return "an argument is out of range";
    case P4DP_EFULL: return "the table has reached its size";
    case P4DP_ECONST: return "it is const in the program";
    case P4DP_EIO: return "input or output failed";
    case P4DP_ELOAD: return "the program cannot be loaded";
    case P4DP_ESTATE: return "not possible in this state";
    case P4DP_EINUSE: return "an entry or group refers to it";
    default: return code >= 0 ? "no error" : "unknown error";
    }
}

/* One origin of time for all switches of the process, so that a program can move from one to another with its meters. */
static uint64_t origin_ns;
static void set_origin(void) { origin_ns = dp_monotonic_ns(); }

p4dp_switch *p4dp_create(uint32_t cpu_port, uint32_t drop_port, uint64_t random_seed) {
    p4dp_switch *sw = calloc(1, sizeof *sw);
    if (sw == NULL) return NULL;
    sw->groups = calloc(DP_GROUPS, sizeof *sw->groups);
    sw->sessions = calloc(DP_GROUPS, sizeof *sw->sessions);
    if (sw->groups == NULL || sw->sessions == NULL) {
        free(sw->groups);
        free(sw->sessions);
        free(sw);
        return NULL;
    }
    sw->cpu_port = cpu_port;
    sw->drop_port = drop_port;
    sw->seed = random_seed;
    if (random_seed == 0 && getrandom(&sw->seed, sizeof sw->seed, 0) != (ssize_t)sizeof sw->seed) sw->seed = dp_realtime_ns();
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_origin);
    sw->started_ns = origin_ns;
    sw->loop.epoll = sw->loop.wake = sw->loop.timer = -1;
    sw->traffic.priorities = 1;
    sw->traffic.depth = DP_QUEUE_DEPTH;
    dp_gate_init(&sw->gate);
    dp_events_init(&sw->events);
    return sw;
}

void p4dp_destroy(p4dp_switch *sw) {
    if (sw == NULL) return;
    p4dp_stop(sw);
    dp_trace_close(sw);
    dp_queues_free(sw); /* counts what is lost on the ports */
    for (uint32_t i = 0; i < DP_PORTS; i++)
        if (sw->ports[i] != NULL) {
            if (sw->ports[i]->io != NULL) dp_io_close(sw->ports[i]->io);
            free(sw->ports[i]);
        }
    for (uint32_t i = 0; i < DP_GROUPS; i++) {
        free(sw->groups[i]);
        free(sw->sessions[i]);
    }
    free(sw->groups);
    free(sw->sessions);
    while (sw->out_head != NULL) {
        dp_output *output = sw->out_head;
        sw->out_head = output->next;
        free(output);
    }
    dp_program_unload(sw->env);
    free(sw->undo.records);
    dp_arena_free(&sw->arena);
    dp_events_destroy(&sw->events);
    dp_gate_destroy(&sw->gate);
    free(sw);
}

static void install(p4dp_switch *sw, p4prog_env *env) {
    bool has_idle = false;
    for (uint32_t i = 0; i < env->program->n_tables; i++) has_idle |= env->tables[i].has_idle;
    dp_gate_enter(&sw->gate);
    p4prog_env *old = sw->env;
    dp_queues_empty(sw); /* what waits is in the old program's terms */
    sw->env = env;
    sw->loads++;
    env->sw = sw;
    env->tracing = sw->trace != NULL;
    atomic_store(&sw->idle_tables, has_idle);
    dp_gate_leave(&sw->gate);
    /* Whoever waits for events may have to look for idle entries from now on. */
    pthread_mutex_lock(&sw->events.mutex);
    pthread_cond_broadcast(&sw->events.arrived);
    pthread_mutex_unlock(&sw->events.mutex);
    dp_program_unload(old);
}

int p4dp_load(p4dp_switch *sw, const char *shared_object, char *message, size_t message_size) {
    p4prog_env *env = dp_program_load(sw, shared_object, message, message_size);
    if (env == NULL) return P4DP_ELOAD;
    install(sw, env);
    return 0;
}

int p4dp_adopt(p4dp_switch *sw, p4dp_switch *from) {
    dp_gate_enter(&from->gate);
    p4prog_env *env = from->env;
    from->env = NULL;
    dp_queues_empty(from);
    dp_gate_leave(&from->gate);
    if (env == NULL) return P4DP_ESTATE;
    install(sw, env);
    return 0;
}

const void *p4dp_program(p4dp_switch *sw) {
    dp_gate_enter(&sw->gate);
    const void *program = sw->env != NULL ? sw->env->program : NULL;
    dp_gate_leave(&sw->gate);
    return program;
}

dp_port *dp_port_get(p4dp_switch *sw, uint32_t number) {
    if (number >= DP_PORTS) return NULL;
    dp_port *port = sw->ports[number];
    if (port == NULL) {
        port = calloc(1, sizeof *port);
        if (port == NULL) return NULL;
        port->number = number;
        sw->ports[number] = port;
        dp_pcap_open(sw, port);
    }
    return port;
}

/* --------------------------------------------------------------------------------- packets from the control side */

static int run_one(p4dp_switch *sw, uint32_t port, const uint8_t *packet, uint32_t length, bool collect_always) {
    if (port >= DP_PORTS || (length > 0 && packet == NULL)) return P4DP_EINVAL;
    int result = 0;
    dp_gate_enter(&sw->gate);
    if (sw->env == NULL) {
        result = P4DP_ESTATE;
    } else if (length > DP_FRAME_MAX) {
        sw->stats.rx_oversized++;
        result = P4DP_EINVAL;
    } else {
        dp_port_get(sw, port);
        dp_engine_clock(sw);
        sw->collect = collect_always || !sw->loop.running;
        dp_engine_packet(sw, port, packet, length);
        dp_engine_flush(sw);
        sw->collect = false;
        if (sw->trace != NULL) fflush(sw->trace);
    }
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_inject(p4dp_switch *sw, uint32_t port, const uint8_t *packet, uint32_t length) {
    return run_one(sw, port, packet, length, true);
}

int p4dp_packet_out(p4dp_switch *sw, const uint8_t *packet, uint32_t length) {
    if (sw->cpu_port >= DP_PORTS) return P4DP_ESTATE;
    return run_one(sw, sw->cpu_port, packet, length, false);
}

int p4dp_output_next(p4dp_switch *sw, uint32_t *port, uint8_t *buffer, uint32_t capacity) {
    int result = P4DP_ENOTFOUND;
    dp_gate_enter(&sw->gate);
    dp_engine_departures(sw);
    dp_output *output = sw->out_head;
    if (output != NULL && output->length > capacity) {
        result = P4DP_EINVAL;
        output = NULL;
    } else if (output != NULL) {
        *port = output->port;
        if (output->length > 0) memcpy(buffer, output->bytes, output->length);
        result = (int)output->length;
        sw->out_head = output->next;
        if (sw->out_head == NULL) sw->out_tail = NULL;
        sw->n_outputs--;
    }
    dp_gate_leave(&sw->gate);
    free(output);
    return result;
}

int64_t p4dp_bench(p4dp_switch *sw, uint32_t port, const uint8_t *packets, const uint32_t *lengths, uint32_t count, uint64_t rounds) {
    if (port >= DP_PORTS || count == 0) return P4DP_EINVAL;
    for (uint32_t i = 0; i < count; i++)
        if (lengths[i] > DP_FRAME_MAX) return P4DP_EINVAL;
    dp_gate_enter(&sw->gate);
    int64_t result = P4DP_ESTATE;
    if (sw->env != NULL) {
        sw->discard = true;
        const uint8_t *packet = packets;
        uint32_t at = 0;
        uint64_t started = dp_monotonic_ns();
        for (uint64_t i = 0; i < rounds;) {
            dp_engine_clock(sw); /* as often as in a real batch */
            for (uint32_t batch = 0; batch < 64 && i < rounds; batch++, i++) {
                dp_engine_packet(sw, port, packet, lengths[at]);
                packet += lengths[at++];
                if (at == count) {
                    at = 0;
                    packet = packets;
                }
            }
            dp_engine_flush(sw);
        }
        result = (int64_t)(dp_monotonic_ns() - started);
        sw->discard = false;
    }
    dp_gate_leave(&sw->gate);
    return result;
}

/* ---------------------------------------------------------------------------------------- statistics, names */

int p4dp_stats(p4dp_switch *sw, p4dp_stats_view *stats) {
    dp_gate_enter(&sw->gate);
    dp_loop_collect_missed(sw);
    *stats = sw->stats;
    dp_gate_leave(&sw->gate);
    pthread_mutex_lock(&sw->events.mutex);
    stats->events_lost = sw->events.lost;
    pthread_mutex_unlock(&sw->events.mutex);
    return 0;
}

int p4dp_port_stats(p4dp_switch *sw, uint32_t port, p4dp_stats_view *stats) {
    int result = port < DP_PORTS ? P4DP_ENOTFOUND : P4DP_EINVAL;
    dp_gate_enter(&sw->gate);
    if (port < DP_PORTS && sw->ports[port] != NULL) {
        dp_loop_collect_missed(sw);
        *stats = sw->ports[port]->stats;
        result = 0;
    }
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_index(p4dp_switch *sw, int kind, const char *name) {
    int found = -1;
    dp_gate_enter(&sw->gate);
    const p4prog_program *p = sw->env != NULL ? sw->env->program : NULL;
    uint32_t counts[] = {p ? p->n_tables : 0, p ? p->n_actions : 0, p ? p->n_externs : 0, p ? p->n_digests : 0, p ? p->n_value_sets : 0};
    for (uint32_t i = 0; kind >= 0 && kind < 5 && i < counts[kind] && found < 0; i++) {
        const char *names[] = {kind == 0 ? p->tables[i].name : NULL, kind == 1 ? p->actions[i].name : NULL,
                               kind == 2 ? p->externs[i].name : NULL, kind == 3 ? p->digests[i].name : NULL,
                               kind == 4 ? p->value_sets[i].name : NULL};
        if (strcmp(names[kind], name) == 0) found = (int)i;
    }
    dp_gate_leave(&sw->gate);
    return found;
}

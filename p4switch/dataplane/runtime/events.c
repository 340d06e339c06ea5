/* The queue of events for the controller. It has a lock of its own, so that waiting for events never holds packets up; when it is
 * full the newest event is lost and counted.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define MAX_EVENTS 16384u
#define MAX_BYTES (32u * 1024u * 1024u)
#define SWEEP_NS 50000000u /* how often idle entries are looked for while somebody waits */

void dp_events_init(dp_events *events) {
    *events = (dp_events){0};
    pthread_mutex_init(&events->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&events->arrived, &attributes);
    pthread_condattr_destroy(&attributes);
}

void dp_events_destroy(dp_events *events) {
    while (events->head != NULL) {
        dp_queued *queued = events->head;
        events->head = queued->next;
        free(queued);
    }
    pthread_cond_destroy(&events->arrived);
    pthread_mutex_destroy(&events->mutex);
}

void dp_event_push(dp_events *events, const p4dp_event *event, const uint8_t *a, uint32_t a_length, const uint8_t *b,
                   uint32_t b_length) {
    uint32_t length = a_length + b_length;
    dp_queued *queued = malloc(sizeof *queued + length);
    if (queued != NULL) {
        *queued = (dp_queued){.event = *event, .length = length};
        if (a_length > 0) memcpy(queued->bytes, a, a_length);
        if (b_length > 0) memcpy(queued->bytes + a_length, b, b_length);
    }
    pthread_mutex_lock(&events->mutex);
    if (queued == NULL || events->count >= MAX_EVENTS || events->bytes + length > MAX_BYTES) {
        events->lost++;
        pthread_mutex_unlock(&events->mutex);
        free(queued);
        return;
    }
    if (events->tail != NULL)
        events->tail->next = queued;
    else
        events->head = queued;
    events->tail = queued;
    events->count++;
    events->bytes += length;
    if (events->waiters > 0) pthread_cond_signal(&events->arrived);
    pthread_mutex_unlock(&events->mutex);
}

static struct timespec at(uint64_t ns) { return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)}; }

/* Idle timeouts are looked for here, by whoever waits for events: nobody else would learn of them. */
static void sweep_when_due(p4dp_switch *sw) {
    dp_gate_enter(&sw->gate);
    uint64_t now = dp_monotonic_ns();
    if (now - sw->last_sweep_ns >= SWEEP_NS) {
        sw->last_sweep_ns = now;
        dp_entries_sweep_idle(sw);
    }
    dp_gate_leave(&sw->gate);
}

int p4dp_event_wait(p4dp_switch *sw, int timeout_ms, p4dp_event *event, uint8_t *buffer, uint32_t capacity) {
    dp_events *events = &sw->events;
    uint64_t deadline = timeout_ms < 0 ? UINT64_MAX : dp_monotonic_ns() + (uint64_t)timeout_ms * 1000000u;
    int result = P4DP_ENOTFOUND;

    pthread_mutex_lock(&events->mutex);
    unsigned wakes = events->wakes;
    events->waiters++;
    while (events->head == NULL && events->wakes == wakes) {
        uint64_t now = dp_monotonic_ns();
        if (now >= deadline) break;
        if (atomic_load_explicit(&sw->idle_tables, memory_order_relaxed)) {
            pthread_mutex_unlock(&events->mutex);
            sweep_when_due(sw);
            pthread_mutex_lock(&events->mutex);
            if (events->head != NULL || events->wakes != wakes) break;
        }
        uint64_t until = atomic_load_explicit(&sw->idle_tables, memory_order_relaxed) && deadline - now > SWEEP_NS ? now + SWEEP_NS : deadline;
        if (until == UINT64_MAX) {
            pthread_cond_wait(&events->arrived, &events->mutex);
        } else {
            struct timespec time = at(until);
            pthread_cond_timedwait(&events->arrived, &events->mutex, &time);
        }
    }
    events->waiters--;
    dp_queued *queued = events->head;
    if (queued != NULL) {
        *event = queued->event;
        event->length = queued->length;
        if (queued->length > capacity) {
            result = P4DP_EINVAL; /* stays queued: call again with more room */
            queued = NULL;
        } else {
            if (queued->length > 0) memcpy(buffer, queued->bytes, queued->length);
            result = (int)queued->length;
            events->head = queued->next;
            if (events->head == NULL) events->tail = NULL;
            events->count--;
            events->bytes -= queued->length;
        }
    }
    pthread_mutex_unlock(&events->mutex);
    free(queued);
    return result;
}

void p4dp_event_wake(p4dp_switch *sw) {
    pthread_mutex_lock(&sw->events.mutex);
    sw->events.wakes++;
    pthread_cond_broadcast(&sw->events.arrived);
    pthread_mutex_unlock(&sw->events.mutex);
}

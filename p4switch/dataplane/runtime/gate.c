/* The gate between the data-plane thread and everybody else: a first-come-first-served lock, which a thread may hold across calls. */
#include "internal.h"

static bool held_by_caller(const dp_gate *gate) {
    return atomic_load_explicit(&gate->holder, memory_order_relaxed) == (unsigned long)pthread_self();
}

void dp_gate_init(dp_gate *gate) {
    pthread_mutex_init(&gate->mutex, NULL);
    pthread_cond_init(&gate->changed, NULL);
    gate->next = gate->serving = 0;
    atomic_init(&gate->waiting, 0);
    atomic_init(&gate->holder, 0);
}

void dp_gate_destroy(dp_gate *gate) {
    pthread_cond_destroy(&gate->changed);
    pthread_mutex_destroy(&gate->mutex);
}

void dp_gate_enter(dp_gate *gate) {
    if (held_by_caller(gate)) return;
    pthread_mutex_lock(&gate->mutex);
    uint64_t ticket = gate->next++;
    if (gate->serving != ticket) {
        atomic_fetch_add_explicit(&gate->waiting, 1, memory_order_relaxed);
        while (gate->serving != ticket) pthread_cond_wait(&gate->changed, &gate->mutex);
        atomic_fetch_sub_explicit(&gate->waiting, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&gate->mutex);
}

void dp_gate_leave(dp_gate *gate) {
    if (held_by_caller(gate)) return;
    pthread_mutex_lock(&gate->mutex);
    gate->serving++;
    if (gate->serving != gate->next) pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

void dp_gate_hold(dp_gate *gate) {
    dp_gate_enter(gate);
    atomic_store_explicit(&gate->holder, (unsigned long)pthread_self(), memory_order_relaxed);
}

void dp_gate_release(dp_gate *gate) {
    atomic_store_explicit(&gate->holder, 0, memory_order_relaxed);
    dp_gate_leave(gate);
}

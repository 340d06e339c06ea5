/* The data-plane thread: waits for frames on all ports, processes them batch by batch, lets the control side in between batches.
 *
 * A port whose interface vanishes stays in the switch and is opened again when an interface of that name appears.
 */
#include "io_packet.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define WAKE UINT32_MAX
#define TIMER (UINT32_MAX - 1)
#define CHECK_MS 500u /* how often interfaces that are down or gone are looked at */
#define DATAPLANE_NICE (-10)
#define YIELD_NS 2000u
#define SHARED_NS 10000u   /* a yield that takes so long has let somebody else run */
#define TOLERATED_NS 1000000u /* for so long in all before polling is given up; */
#define FORGIVEN 8            /* one part in so many of the time that is spent polling does not count */
#define PAUSE_NS 20000000u
#define LONGEST_PAUSE_NS (32ull * PAUSE_NS)
#define WORTH_A_TRY 4 /* out of SURE: how often lately polling found or would have found frames */
#define SURE 8
#define BATCHES_PER_TURN 8u /* of one port before the others get their turn */

static bool watch(p4dp_switch *sw, int fd, uint32_t what) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = what};
    return epoll_ctl(sw->loop.epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void wake(p4dp_switch *sw) {
    uint64_t one = 1;
    if (sw->loop.wake >= 0 && write(sw->loop.wake, &one, sizeof one) < 0) return; /* full: it is awake anyway */
}

void dp_loop_arm(p4dp_switch *sw) {
    if (sw->loop.timer < 0) return;
    uint64_t next = dp_queues_next(sw);
    if (next == sw->loop.timer_ns) return;
    sw->loop.timer_ns = next;
    uint64_t at = sw->started_ns + next; /* a time in the past fires at once; all zero switches the timer off */
    struct itimerspec time = {0};
    if (next != UINT64_MAX) time.it_value = (struct timespec){.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)};
    timerfd_settime(sw->loop.timer, TFD_TIMER_ABSTIME, &time, NULL);
}

int dp_loop_attach(p4dp_switch *sw, dp_port *port) {
    if (!sw->loop.running) return 0;
    const dp_io *io = port->io;
    if (!watch(sw, io->fd, port->number) || (io->control != io->fd && !watch(sw, io->control, port->number))) return P4DP_EIO;
    sw->loop.active[sw->loop.n_active++] = port->number;
    return 0;
}

void dp_loop_detach(p4dp_switch *sw, dp_port *port) {
    if (!sw->loop.running) return;
    epoll_ctl(sw->loop.epoll, EPOLL_CTL_DEL, port->io->fd, NULL);
    if (port->io->control != port->io->fd) epoll_ctl(sw->loop.epoll, EPOLL_CTL_DEL, port->io->control, NULL);
    for (uint32_t i = 0; i < sw->loop.n_active; i++)
        if (sw->loop.active[i] == port->number) {
            sw->loop.active[i] = sw->loop.active[--sw->loop.n_active];
            return;
        }
}

void dp_loop_collect_missed(p4dp_switch *sw) {
    for (uint32_t i = 0; i < DP_PORTS; i++) {
        dp_port *port = sw->ports[i];
        if (port == NULL || port->io == NULL) continue;
        uint64_t missed = dp_io_missed(port->io);
        port->stats.rx_missed += missed;
        sw->stats.rx_missed += missed;
    }
}

/* Look at a port whose interface has reported an error: is it gone, is it back, is all well again? The kernel reports an error when an
   interface goes down but none when it then vanishes, so this is repeated until the interface is up. */
static void check_port(p4dp_switch *sw, dp_port *port) {
    if (!port->lost && dp_io_gone(port->io)) {
        dp_loop_detach(sw, port);
        port->lost = true;
    }
    if (port->lost) {
        dp_io *io = dp_io_open(port->io->name, dp_io_wants_xdp(port->io), NULL, 0);
        if (io == NULL) return;
        dp_io_close(port->io);
        port->io = io;
        port->lost = false;
        dp_loop_attach(sw, port);
    }
    if (dp_io_up(port->io)) {
        port->watched = false;
        sw->n_watched--;
    }
}

/* An error on a socket: read it, or epoll reports it for ever. */
static void handle_error(p4dp_switch *sw, dp_port *port) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(port->io->control, SOL_SOCKET, SO_ERROR, &error, &size);
    if (!port->watched) {
        port->watched = true;
        sw->n_watched++;
    }
    check_port(sw, port);
}

static void check_watched(p4dp_switch *sw) {
    uint64_t now = dp_monotonic_ns();
    if (now < sw->next_check_ns) return;
    sw->next_check_ns = now + CHECK_MS * 1000000u;
    for (uint32_t i = 0; i < DP_PORTS; i++)
        if (sw->ports[i] != NULL && sw->ports[i]->io != NULL && sw->ports[i]->watched) check_port(sw, sw->ports[i]);
}

/* Enter the gate and note how long that took: for as long the thread may then serve what has piled up before it gives way again. */
static void take_turn(p4dp_switch *sw) {
    uint64_t asked = dp_monotonic_ns();
    dp_gate_enter(&sw->gate);
    sw->loop.turn_ns = dp_monotonic_ns();
    sw->loop.waited_ns = sw->loop.turn_ns - asked;
}

/* Somebody waits, and has waited for as long as the thread had to. */
static bool turn_over(p4dp_switch *sw) { return dp_gate_wanted(&sw->gate) && dp_monotonic_ns() - sw->loop.turn_ns >= sw->loop.waited_ns; }

static void serve_port(p4dp_switch *sw, dp_port *port) {
    for (uint32_t batch = 0; batch < BATCHES_PER_TURN; batch++) {
        if (sw->env != NULL) dp_engine_clock(sw);
        if (dp_io_receive(sw, port) < DP_RX_BATCH) return;
        if (turn_over(sw)) {
            dp_gate_leave(&sw->gate);
            take_turn(sw);
            if (port->io == NULL || port->lost) return; /* removed meanwhile */
        }
    }
}

/* Packets whose time has come leave their queues; the rest of many soon, for the timer is then set to the past. */
static void serve_queues(p4dp_switch *sw) {
    if (sw->env == NULL || sw->traffic.waiting == 0) return;
    dp_engine_clock(sw);
    dp_queues_serve(sw, DP_RX_BATCH);
    dp_engine_flush(sw);
}

/* Somebody else wants this CPU. A thread that polls is not woken by a frame and so does not get the CPU back for it: better to sleep.
   The times until the next try double, and start anew when polling has gone well for as long as the latest. */
static void give_up_polling(p4dp_switch *sw, uint64_t now) {
    dp_loop *loop = &sw->loop;
    bool long_ago = now - loop->retry_ns > loop->pause_ns;
    loop->pause_ns = loop->pause_ns == 0 || long_ago ? PAUSE_NS : loop->pause_ns >= LONGEST_PAUSE_NS ? LONGEST_PAUSE_NS : 2 * loop->pause_ns;
    loop->retry_ns = now + loop->pause_ns;
    loop->confidence = 0;
    loop->shared_ns = 0;
}

/* Offer the CPU after polling since `since`; the time when it is back. 0 when others have taken so much of it by now that polling was
   given up; a daemon's few microseconds are forgiven. */
static uint64_t offer_cpu(p4dp_switch *sw, uint64_t since) {
    dp_loop *loop = &sw->loop;
    uint64_t offered = dp_monotonic_ns(), forgiven = (offered - since) / FORGIVEN;
    sched_yield();
    uint64_t back = dp_monotonic_ns();
    loop->shared_ns = loop->shared_ns > forgiven ? loop->shared_ns - forgiven : 0;
    if (back - offered >= SHARED_NS) loop->shared_ns += back - offered;
    if (loop->shared_ns < TOLERATED_NS) return back;
    give_up_polling(sw, back);
    return 0;
}

/* Serve what arrives until nothing has for a while, somebody wants the gate, or it is time to stop. True when something arrived. */
static bool poll_for_frames(p4dp_switch *sw) {
    uint64_t idle_since = dp_monotonic_ns(), yielded = idle_since;
    bool any = false;
    while (!dp_gate_wanted(&sw->gate) && !atomic_load_explicit(&sw->loop.stop, memory_order_relaxed)) {
        bool served = false;
        for (uint32_t i = 0; i < sw->loop.n_active; i++) {
            dp_port *port = sw->ports[sw->loop.active[i]];
            if (!dp_io_ready(port->io)) continue;
            serve_port(sw, port);
            any = served = true;
            break; /* the list may have changed */
        }
        uint64_t now = dp_monotonic_ns();
        if (UNLIKELY(sw->traffic.waiting != 0 && now - sw->started_ns >= sw->loop.timer_ns)) serve_queues(sw);
        if (served) idle_since = now;
        if (now - idle_since >= sw->loop.busy_poll_ns) break;
        if (now - yielded >= YIELD_NS) {
            yielded = offer_cpu(sw, yielded);
            if (yielded == 0) break;
        }
    }
    return any;
}

/* Look for more frames before sleeping, but only while that pays: while frames keep coming within the time it would wait for them (learnt
   from the polls, and from how long it slept without them), and nobody else wants the CPU. */
static void busy_poll(p4dp_switch *sw) {
    dp_loop *loop = &sw->loop;
    if (loop->busy_poll_ns == 0 || loop->woken_ns < loop->retry_ns) return;
    if (loop->woken_ns - loop->slept_ns < loop->busy_poll_ns && loop->confidence < SURE) loop->confidence++;
    if (loop->confidence < WORTH_A_TRY) return;
    bool arrived = poll_for_frames(sw);
    if (loop->confidence == 0) return; /* given up */
    if (arrived)
        loop->confidence = SURE;
    else
        loop->confidence -= 2;
}

static void *run(void *argument) {
    p4dp_switch *sw = argument;
    struct epoll_event events[64];
    pthread_setname_np(pthread_self(), "p4dp");
    /* Hosts that share the machine are not to starve the switch that they talk through. Without the right to, it is as it is. */
    setpriority(PRIO_PROCESS, (id_t)gettid(), DATAPLANE_NICE);
    while (!atomic_load_explicit(&sw->loop.stop, memory_order_relaxed)) {
        sw->loop.slept_ns = dp_monotonic_ns();
        int ready = epoll_wait(sw->loop.epoll, events, 64, atomic_load_explicit(&sw->n_watched, memory_order_relaxed) > 0 ? (int)CHECK_MS : -1);
        sw->loop.woken_ns = dp_monotonic_ns();
        bool frames = false;
        take_turn(sw);
        if (sw->n_watched > 0) check_watched(sw);
        for (int i = 0; i < ready; i++) {
            uint32_t number = events[i].data.u32;
            if (number == WAKE || number == TIMER) {
                uint64_t count;
                if (read(number == WAKE ? sw->loop.wake : sw->loop.timer, &count, sizeof count) < 0) continue;
                if (number == TIMER) {
                    sw->loop.timer_ns = UINT64_MAX;
                    serve_queues(sw);
                    dp_loop_arm(sw);
                }
                continue;
            }
            dp_port *port = sw->ports[number];
            if (port == NULL || port->io == NULL || port->lost) continue;
            if ((events[i].events & (EPOLLERR | EPOLLHUP)) != 0) handle_error(sw, port);
            if ((events[i].events & EPOLLIN) != 0 && !port->lost) {
                serve_port(sw, port);
                frames = true;
            }
        }
        if (frames) busy_poll(sw);
        if (UNLIKELY(sw->trace != NULL)) dp_trace_flush(sw);
        dp_gate_leave(&sw->gate);
    }
    return NULL;
}

static void close_loop(p4dp_switch *sw) {
    if (sw->loop.epoll >= 0) close(sw->loop.epoll);
    if (sw->loop.wake >= 0) close(sw->loop.wake);
    if (sw->loop.timer >= 0) close(sw->loop.timer);
    sw->loop.epoll = sw->loop.wake = sw->loop.timer = -1;
    sw->loop.running = false;
}

int p4dp_start(p4dp_switch *sw) {
    dp_gate_enter(&sw->gate);
    int result = sw->loop.running || sw->manual_time ? P4DP_ESTATE : 0;
    if (result == 0) {
        sw->loop.epoll = epoll_create1(EPOLL_CLOEXEC);
        sw->loop.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        sw->loop.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        sw->loop.timer_ns = UINT64_MAX;
        atomic_store(&sw->loop.stop, false);
        bool ok = sw->loop.epoll >= 0 && sw->loop.wake >= 0 && sw->loop.timer >= 0 && watch(sw, sw->loop.wake, WAKE) &&
                  watch(sw, sw->loop.timer, TIMER);
        sw->loop.running = true; /* the thread cannot do anything before the gate opens */
        sw->loop.n_active = 0;
        for (uint32_t i = 0; i < DP_PORTS && ok; i++)
            if (sw->ports[i] != NULL && sw->ports[i]->io != NULL && !sw->ports[i]->lost) ok = dp_loop_attach(sw, sw->ports[i]) == 0;
        if (!ok || pthread_create(&sw->loop.thread, NULL, run, sw) != 0) {
            close_loop(sw);
            result = P4DP_EIO;
        } else {
            dp_loop_arm(sw);
        }
    }
    dp_gate_leave(&sw->gate);
    return result;
}

int p4dp_busy_poll(p4dp_switch *sw, uint32_t microseconds) {
    dp_gate_enter(&sw->gate);
    sw->loop.busy_poll_ns = (uint64_t)microseconds * 1000;
    dp_gate_leave(&sw->gate);
    wake(sw);
    return 0;
}

int p4dp_stop(p4dp_switch *sw) {
    dp_gate_enter(&sw->gate);
    bool running = sw->loop.running && !atomic_exchange(&sw->loop.stop, true);
    wake(sw);
    dp_gate_leave(&sw->gate);
    if (!running) return P4DP_ESTATE;
    pthread_join(sw->loop.thread, NULL);
    dp_gate_enter(&sw->gate);
    close_loop(sw);
    dp_trace_flush(sw);
    dp_gate_leave(&sw->gate);
    return 0;
}

int p4dp_port_add(p4dp_switch *sw, uint32_t number, const char *interface, int xdp, char *message, size_t message_size) {
    if (number >= DP_PORTS || number == sw->drop_port) {
        if (message != NULL) snprintf(message, message_size, "port %u: valid are 0 to %u without %u (drop)", number, DP_PORTS - 1, sw->drop_port);
        return P4DP_EINVAL;
    }
    dp_io *io = dp_io_open(interface, xdp != 0, message, message_size);
    if (io == NULL) return P4DP_EIO;
    bool is_xdp = dp_io_is_xdp(io);
    dp_gate_enter(&sw->gate);
    dp_port *port = dp_port_get(sw, number);
    int result = port == NULL ? P4DP_ENOMEM : port->io != NULL ? P4DP_EEXISTS : 0;
    if (result == 0) {
        port->io = io;
        result = dp_loop_attach(sw, port);
        if (result != 0) port->io = NULL;
    }
    dp_gate_leave(&sw->gate);
    if (result != 0) {
        if (message != NULL) snprintf(message, message_size, "port %u: %s", number, p4dp_error_text(result));
        dp_io_close(io);
    }
    return result == 0 ? is_xdp : result;
}

int p4dp_port_remove(p4dp_switch *sw, uint32_t number) {
    dp_gate_enter(&sw->gate);
    dp_port *port = number < DP_PORTS ? sw->ports[number] : NULL;
    dp_io *io = port != NULL ? port->io : NULL;
    if (io != NULL) {
        if (!port->lost) dp_loop_detach(sw, port);
        if (port->watched) sw->n_watched--;
        port->lost = port->watched = false;
        port->io = NULL;
    }
    dp_gate_leave(&sw->gate);
    if (io == NULL) return P4DP_ENOTFOUND;
    dp_io_close(io);
    return 0;
}

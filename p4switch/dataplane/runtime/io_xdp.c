/* A port on AF_XDP, in copy mode over generic XDP, which every interface has: about half the CPU time of AF_PACKET a frame.
 *
 * A program of five instructions hands all frames that arrive on the interface's only queue to the socket; it vanishes with this process.
 * Frames lie in chunks of a page, larger ones in several (multi-buffer, Linux 6.6); those are joined before they are processed.
 * Outgoing frames are copied into chunks when they are queued. In exchange for the speed they pass by the interface's queueing discipline,
 * and what the sender's stack left to virtual hardware (VLAN tags, checksums) is lost: its offloads must be off.
 */
#include "io_xdp.h"

#include "io_packet.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <stdlib.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In newer headers only. */
#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4)
#define XDP_PKT_CONTD (1 << 0)
#endif
#ifndef BPF_F_XDP_HAS_FRAGS
#define BPF_F_XDP_HAS_FRAGS (1U << 5)
#endif

#define BIND_ATTEMPTS 50 /* 10 ms apart */
#define CHUNK 4096u
#define RX_CHUNKS 2048u
#define TX_CHUNKS 1024u
#define RX_RING RX_CHUNKS /* powers of two */
#define TX_RING 1024u
#define ETHERNET_HEADER 14u
#define SEND_BUFFER (16 * 1024 * 1024)
#define MOST_CHUNKS 4u /* of a frame that is sent */
#define MOST_RECEIVED 32u /* of one that arrives: more than the kernel's 18 pieces */
#define MOST_TRIES 64 /* of handing frames over when the kernel has no room at the moment */

typedef struct {
    uint32_t *producer, *consumer;
    union {
        uint64_t *chunks;
        struct xdp_desc *frames;
    };
    uint32_t mask;
    void *map;
    size_t map_size;
} ring;

struct dp_xdp {
    int socket, map, program, link, control;
    uint32_t ifindex, longest; /* frame that the interface takes, when it was last looked at */
    uint8_t *memory;
    ring fill, completion, rx, tx;
    uint64_t recycle[DP_RX_BATCH * MOST_CHUNKS + MOST_RECEIVED]; /* chunks of frames that are being processed */
    uint64_t free_chunks[TX_CHUNKS];
    uint32_t n_free;
    uint64_t missed;
};

static uint32_t published(const uint32_t *index) { return __atomic_load_n(index, __ATOMIC_ACQUIRE); }
static void publish(uint32_t *index, uint32_t value) { __atomic_store_n(index, value, __ATOMIC_RELEASE); }

/* -------------------------------------------------------------------------------------------- opening and closing */

static int bpf(int command, union bpf_attr *attributes) { return (int)syscall(SYS_bpf, command, attributes, sizeof *attributes); }

static bool map_ring(const dp_xdp *xdp, ring *r, const struct xdp_ring_offset *offset, uint64_t page, uint32_t count, size_t item) {
    r->map_size = offset->desc + count * item;
    r->map = mmap(NULL, r->map_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, xdp->socket, (off_t)page);
    if (r->map == MAP_FAILED) {
        r->map = NULL;
        return false;
    }
    uint8_t *base = r->map;
    r->producer = (uint32_t *)(void *)(base + offset->producer);
    r->consumer = (uint32_t *)(void *)(base + offset->consumer);
    r->chunks = (uint64_t *)(void *)(base + offset->desc);
    r->mask = count - 1;
    return true;
}

static bool set_ring(const dp_xdp *xdp, int option, int count) { return setsockopt(xdp->socket, SOL_XDP, option, &count, sizeof count) == 0; }

static const char *open_socket(dp_xdp *xdp, uint32_t ifindex) {
    xdp->socket = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (xdp->socket < 0) return "AF_XDP socket";
    int size = SEND_BUFFER;
    if (setsockopt(xdp->socket, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
        setsockopt(xdp->socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    size_t bytes = (size_t)(RX_CHUNKS + TX_CHUNKS) * CHUNK;
    xdp->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (xdp->memory == MAP_FAILED) {
        xdp->memory = NULL;
        return "memory for frames";
    }
    struct xdp_umem_reg memory = {.addr = (uint64_t)(uintptr_t)xdp->memory, .len = bytes, .chunk_size = CHUNK};
    if (setsockopt(xdp->socket, SOL_XDP, XDP_UMEM_REG, &memory, sizeof memory) != 0) return "memory for frames";
    struct xdp_mmap_offsets offsets;
    socklen_t length = sizeof offsets;
    if (!set_ring(xdp, XDP_UMEM_FILL_RING, RX_RING) || !set_ring(xdp, XDP_UMEM_COMPLETION_RING, TX_RING) || !set_ring(xdp, XDP_RX_RING, RX_RING) ||
        !set_ring(xdp, XDP_TX_RING, TX_RING) || getsockopt(xdp->socket, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length) != 0 ||
        !map_ring(xdp, &xdp->fill, &offsets.fr, XDP_UMEM_PGOFF_FILL_RING, RX_RING, sizeof(uint64_t)) ||
        !map_ring(xdp, &xdp->completion, &offsets.cr, XDP_UMEM_PGOFF_COMPLETION_RING, TX_RING, sizeof(uint64_t)) ||
        !map_ring(xdp, &xdp->rx, &offsets.rx, XDP_PGOFF_RX_RING, RX_RING, sizeof(struct xdp_desc)) ||
        !map_ring(xdp, &xdp->tx, &offsets.tx, XDP_PGOFF_TX_RING, TX_RING, sizeof(struct xdp_desc)))
        return "rings";
    for (uint32_t i = 0; i < RX_CHUNKS; i++) xdp->fill.chunks[i] = (uint64_t)i * CHUNK;
    publish(xdp->fill.producer, RX_CHUNKS);
    for (uint32_t i = 0; i < TX_CHUNKS; i++) xdp->free_chunks[xdp->n_free++] = (uint64_t)(RX_CHUNKS + i) * CHUNK;
    struct sockaddr_xdp address = {.sxdp_family = AF_XDP, .sxdp_flags = XDP_COPY | XDP_USE_SG, .sxdp_ifindex = ifindex};
    /* The kernel lets go of the queue some time after its last user has closed the socket. */
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    int result = bind(xdp->socket, (struct sockaddr *)&address, sizeof address);
    for (int attempt = 0; result != 0 && errno == EBUSY && attempt < BIND_ATTEMPTS; attempt++) {
        nanosleep(&pause, NULL);
        result = bind(xdp->socket, (struct sockaddr *)&address, sizeof address);
    }
    return result == 0 ? NULL : "bind (frames in several buffers need Linux 6.6)";
}

/* return redirect_map(&sockets, context->rx_queue_index, XDP_PASS) */
static const char *attach(dp_xdp *xdp, uint32_t ifindex) {
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = 1};
    if ((xdp->map = bpf(BPF_MAP_CREATE, &map)) < 0) return "BPF map";
    uint32_t queue = 0;
    union bpf_attr entry = {.map_fd = (uint32_t)xdp->map, .key = (uint64_t)(uintptr_t)&queue, .value = (uint64_t)(uintptr_t)&xdp->socket};
    if (bpf(BPF_MAP_UPDATE_ELEM, &entry) != 0) return "BPF map";
    struct bpf_insn code[] = {
        {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_1, .off = offsetof(struct xdp_md, rx_queue_index)},
        {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = xdp->map},
        {.code = 0}, /* the upper half of the load */
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr program = {.prog_type = BPF_PROG_TYPE_XDP,
                              .insns = (uint64_t)(uintptr_t)code,
                              .insn_cnt = sizeof code / sizeof *code,
                              .license = (uint64_t)(uintptr_t) "Dual BSD/GPL",
                              .prog_flags = BPF_F_XDP_HAS_FRAGS,
                              .expected_attach_type = BPF_XDP};
    if ((xdp->program = bpf(BPF_PROG_LOAD, &program)) < 0) return "XDP program";
    union bpf_attr link = {0};
    link.link_create.prog_fd = (uint32_t)xdp->program;
    link.link_create.target_ifindex = ifindex;
    link.link_create.attach_type = BPF_XDP;
    link.link_create.flags = XDP_FLAGS_SKB_MODE;
    return (xdp->link = bpf(BPF_LINK_CREATE, &link)) < 0 ? "attaching the XDP program (is there another?)" : NULL;
}

dp_xdp *dp_xdp_open(uint32_t ifindex, int control, char *message, size_t message_size) {
    dp_xdp *xdp = calloc(1, sizeof *xdp);
    if (xdp == NULL) return NULL;
    xdp->socket = xdp->map = xdp->program = xdp->link = -1;
    xdp->control = control;
    xdp->ifindex = ifindex;
    const char *failed = open_socket(xdp, ifindex);
    if (failed == NULL) failed = attach(xdp, ifindex);
    if (failed == NULL) return xdp;
    if (message != NULL) snprintf(message, message_size, "%s: %s", failed, strerror(errno));
    dp_xdp_close(xdp);
    return NULL;
}

void dp_xdp_close(dp_xdp *xdp) {
    int descriptors[] = {xdp->link, xdp->program, xdp->map, xdp->socket};
    for (uint32_t i = 0; i < 4; i++)
        if (descriptors[i] >= 0) close(descriptors[i]);
    ring *rings[] = {&xdp->fill, &xdp->completion, &xdp->rx, &xdp->tx};
    for (uint32_t i = 0; i < 4; i++)
        if (rings[i]->map != NULL) munmap(rings[i]->map, rings[i]->map_size);
    if (xdp->memory != NULL) munmap(xdp->memory, (size_t)(RX_CHUNKS + TX_CHUNKS) * CHUNK);
    free(xdp);
}

int dp_xdp_socket(const dp_xdp *xdp) { return xdp->socket; }

uint64_t dp_xdp_missed(dp_xdp *xdp) {
    struct xdp_statistics statistics = {0};
    socklen_t size = sizeof statistics;
    if (getsockopt(xdp->socket, SOL_XDP, XDP_STATISTICS, &statistics, &size) != 0) return 0;
    uint64_t all = statistics.rx_dropped + statistics.rx_ring_full + statistics.rx_fill_ring_empty_descs, fresh = all - xdp->missed;
    xdp->missed = all;
    return fresh;
}

/* -------------------------------------------------------------------------------------------------- sending */

/* Chunks of frames that the kernel is done with. */
static void reclaim(dp_xdp *xdp) {
    uint32_t at = *xdp->completion.consumer, end = published(xdp->completion.producer);
    for (; at != end; at++) xdp->free_chunks[xdp->n_free++] = xdp->completion.chunks[at & xdp->completion.mask] & ~(uint64_t)(CHUNK - 1);
    publish(xdp->completion.consumer, at);
}

static void count(p4dp_switch *sw, dp_port *port, uint64_t frames, uint64_t bytes, uint64_t drops) {
    p4dp_stats_view *both[2] = {&port->stats, &sw->stats};
    for (int i = 0; i < 2; i++) {
        both[i]->tx_packets += frames;
        both[i]->tx_bytes += bytes;
        both[i]->tx_drops += drops;
    }
}

static void copy_pieces(uint8_t *to, uint32_t from, uint32_t length, const uint8_t *a, uint32_t a_length, const uint8_t *b) {
    uint32_t of_a = from >= a_length ? 0 : a_length - from < length ? a_length - from : length;
    if (of_a > 0) memcpy(to, a + from, of_a);
    if (length > of_a) memcpy(to + of_a, b + (from + of_a - a_length), length - of_a);
}

/* Whether the interface takes frames of this length: its MTU, a header and a VLAN tag. A longer one is cut by nobody, but dropped without
   a word, so the MTU is looked at again. */
static bool fits_interface(dp_xdp *xdp, uint32_t length) {
    if (LIKELY(length <= xdp->longest)) return true;
    struct ifreq request = {.ifr_ifindex = (int)xdp->ifindex};
    if (ioctl(xdp->control, SIOCGIFNAME, &request) == 0 && ioctl(xdp->control, SIOCGIFMTU, &request) == 0)
        xdp->longest = (uint32_t)request.ifr_mtu + ETHERNET_HEADER + 4;
    return length <= xdp->longest;
}

void dp_xdp_queue(p4dp_switch *sw, dp_port *port, dp_xdp *xdp, const uint8_t *a, uint32_t a_length, const uint8_t *b, uint32_t b_length) {
    uint32_t length = a_length + b_length, chunks = (length + CHUNK - 1) / CHUNK, producer = *xdp->tx.producer;
    bool fits = length >= ETHERNET_HEADER && chunks <= MOST_CHUNKS && fits_interface(xdp, length);
    if (xdp->n_free < chunks) reclaim(xdp);
    if (fits && (xdp->n_free < chunks || producer - published(xdp->tx.consumer) + chunks > TX_RING)) {
        dp_xdp_flush(sw, port, xdp);
        reclaim(xdp);
    }
    if (!fits || xdp->n_free < chunks || producer - published(xdp->tx.consumer) + chunks > TX_RING) {
        count(sw, port, 0, 0, 1);
        return;
    }
    producer = *xdp->tx.producer;
    for (uint32_t i = 0; i < chunks; i++) {
        uint32_t from = i * CHUNK, part = length - from < CHUNK ? length - from : CHUNK;
        uint64_t chunk = xdp->free_chunks[--xdp->n_free];
        copy_pieces(xdp->memory + chunk, from, part, a, a_length, b);
        xdp->tx.frames[producer++ & xdp->tx.mask] = (struct xdp_desc){.addr = chunk, .len = part, .options = i + 1 < chunks ? XDP_PKT_CONTD : 0};
    }
    publish(xdp->tx.producer, producer);
    count(sw, port, 1, length, 0);
}

/* Take back what the kernel would not have: it looks at the ring only while it is called. */
static void take_back(p4dp_switch *sw, dp_port *port, dp_xdp *xdp) {
    uint32_t from = published(xdp->tx.consumer), to = *xdp->tx.producer, frames = 0;
    uint64_t bytes = 0;
    for (uint32_t at = from; at != to; at++) {
        const struct xdp_desc *frame = &xdp->tx.frames[at & xdp->tx.mask];
        xdp->free_chunks[xdp->n_free++] = frame->addr;
        bytes += frame->len;
        frames += (frame->options & XDP_PKT_CONTD) == 0;
    }
    publish(xdp->tx.producer, from);
    count(sw, port, -(uint64_t)frames, -bytes, frames);
}

void dp_xdp_flush(p4dp_switch *sw, dp_port *port, dp_xdp *xdp) {
    for (int tries = 0; published(xdp->tx.consumer) != *xdp->tx.producer;) {
        uint32_t before = published(xdp->tx.consumer);
        int result = sendto(xdp->socket, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 ? errno : 0;
        if (published(xdp->tx.consumer) != before || result == EINTR) continue;
        reclaim(xdp);
        bool later = result == 0 || result == EAGAIN || result == EBUSY || result == ENOBUFS;
        if (!later || ++tries == MOST_TRIES) {
            take_back(sw, port, xdp);
            return;
        }
    }
}

/* ----------------------------------------------------------------------------------------------- receiving */

bool dp_xdp_ready(const dp_xdp *xdp) { return published(xdp->rx.producer) != *xdp->rx.consumer; }

/* The bytes of a frame that lies in the chunks from `at` on: where they are, or a joined copy. NULL: too long, or no memory. */
static const uint8_t *frame_at(p4dp_switch *sw, const dp_xdp *xdp, uint32_t at, uint32_t chunks, uint32_t length) {
    const struct xdp_desc *first = &xdp->rx.frames[at & xdp->rx.mask];
    if (length > DP_FRAME_MAX) return NULL;
    if (chunks == 1) return xdp->memory + first->addr;
    uint8_t *joined = dp_arena_alloc(&sw->arena, length);
    uint32_t done = 0;
    for (uint32_t i = 0; joined != NULL && i < chunks; i++) {
        const struct xdp_desc *part = &xdp->rx.frames[(at + i) & xdp->rx.mask];
        memcpy(joined + done, xdp->memory + part->addr, part->len);
        done += part->len;
    }
    return joined;
}

uint32_t dp_xdp_receive(p4dp_switch *sw, dp_port *port, dp_xdp *xdp) {
    uint32_t at = *xdp->rx.consumer, end = published(xdp->rx.producer), frames = 0, n_recycle = 0;
    while (frames < DP_RX_BATCH && at != end && n_recycle + MOST_RECEIVED <= sizeof xdp->recycle / sizeof *xdp->recycle) {
        uint32_t chunks = 0, length = 0;
        bool more = true;
        while (more && at + chunks != end && chunks < MOST_RECEIVED) {
            const struct xdp_desc *part = &xdp->rx.frames[(at + chunks++) & xdp->rx.mask];
            xdp->recycle[n_recycle++] = part->addr & ~(uint64_t)(CHUNK - 1);
            length += part->len;
            more = (part->options & XDP_PKT_CONTD) != 0;
        }
        const uint8_t *next = xdp->memory + xdp->rx.frames[(at + chunks) & xdp->rx.mask].addr;
        __builtin_prefetch(next); /* was written by another CPU */
        __builtin_prefetch(next + 64);
        const uint8_t *frame = more ? NULL : frame_at(sw, xdp, at, chunks, length);
        if (sw->env == NULL) {
            sw->stats.dropped++; /* no program yet */
        } else if (frame == NULL) {
            sw->stats.rx_oversized++;
            port->stats.rx_oversized++;
        } else {
            dp_engine_packet(sw, port->number, frame, length);
        }
        at += chunks;
        frames++;
    }
    publish(xdp->rx.consumer, at);
    /* Frames that wait in other ports' queues are sent from where they lie: their chunks go back only now. */
    dp_engine_flush(sw);
    uint32_t fill = *xdp->fill.producer;
    for (uint32_t i = 0; i < n_recycle; i++) xdp->fill.chunks[fill++ & xdp->fill.mask] = xdp->recycle[i];
    publish(xdp->fill.producer, fill);
    return frames;
}

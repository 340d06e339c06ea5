/* The socket of one port: AF_PACKET, raw, all frames that arrive on the interface and none that leave it; or AF_XDP (io_xdp.c).
 *
 * Frames come in through a ring that the kernel fills (TPACKET_V2): no system call and no copy in this thread; they stay in the ring
 * until everything they caused has been sent. Frames go out through the interface's queueing discipline, so that traffic control
 * (rates and delays of an emulated link) works. Outgoing frames are queued as two pieces, the headers that were just written and
 * the payload where it was received, and handed to the kernel in one call at the end of a batch. docs/decisions has the
 * measurements behind this.
 */
#include "io_packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEND_BUFFER (16 * 1024 * 1024)
#define NO_PROTOCOL 0xffff /* a reserved EtherType */

/* A slot holds the kernel's header, room to put a VLAN tag back, and the largest frame. */
#define HEADROOM 16u
#define SLOT_SIZE 9344u
#define BLOCK_SIZE (128u * 1024u)
#define SLOTS_PER_BLOCK (BLOCK_SIZE / SLOT_SIZE)
#define BLOCKS 146u
#define SLOTS (BLOCKS * SLOTS_PER_BLOCK) /* 2,044: bridges 10 ms at 200,000 frames a second */
_Static_assert(SLOT_SIZE >= TPACKET2_HDRLEN + 32 + HEADROOM + DP_FRAME_MAX, "slots too small");
_Static_assert(SLOT_SIZE % TPACKET_ALIGNMENT == 0, "slots not aligned");

static bool fail(char *message, size_t size, const char *interface, const char *what) {
    if (message != NULL) snprintf(message, size, "%s: %s: %s", interface, what, strerror(errno));
    return false;
}

static bool option(int fd, int level, int name, int value) { return setsockopt(fd, level, name, &value, sizeof value) == 0; }

static bool map_ring(dp_io *io) {
    struct tpacket_req request = {.tp_block_size = BLOCK_SIZE, .tp_block_nr = BLOCKS, .tp_frame_size = SLOT_SIZE, .tp_frame_nr = SLOTS};
    if (!option(io->fd, SOL_PACKET, PACKET_VERSION, TPACKET_V2) || !option(io->fd, SOL_PACKET, PACKET_RESERVE, HEADROOM) ||
        setsockopt(io->fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) != 0)
        return false;
    void *ring = mmap(NULL, (size_t)BLOCK_SIZE * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, io->fd, 0);
    if (ring == MAP_FAILED) return false;
    io->ring = ring;
    return true;
}

/* The number of receive queues; 1 where the driver does not say. */
static uint32_t queues(const dp_io *io) {
    struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
    struct ifreq request = {0};
    memcpy(request.ifr_name, io->name, sizeof request.ifr_name);
    request.ifr_data = (void *)&channels;
    if (ioctl(io->control, SIOCETHTOOL, &request) != 0) return 1;
    uint32_t count = channels.rx_count + channels.combined_count;
    return count == 0 ? 1 : count;
}

/* Use AF_XDP where that is wanted and possible; `message` says why it is not. */
static void try_xdp(dp_io *io, char *message, size_t size) {
    char why[200] = "";
    if (queues(io) == 1)
        io->xdp = dp_xdp_open(io->ifindex, io->control, why, sizeof why);
    else
        snprintf(why, sizeof why, "the interface has more than one receive queue");
    if (io->xdp != NULL)
        io->fd = dp_xdp_socket(io->xdp);
    else if (message != NULL)
        snprintf(message, size, "%s: AF_XDP is not possible, AF_PACKET is used: %s", io->name, why);
}

static bool configure(dp_io *io, char *message, size_t size) {
    io->ifindex = if_nametoindex(io->name);
    if (io->ifindex == 0) return fail(message, size, io->name, "no such interface");
    /* Protocol 0 receives nothing until bind, so that no frame of another interface gets in. */
    io->fd = io->control = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (io->control < 0) return fail(message, size, io->name, "packet socket (needs root or CAP_NET_RAW)");

    struct ifreq request = {0};
    memcpy(request.ifr_name, io->name, sizeof request.ifr_name);
    if (ioctl(io->control, SIOCGIFHWADDR, &request) != 0) return fail(message, size, io->name, "hardware address");
    /* 1 is Ethernet (ARPHRD_ETHER), 772 loopback, which has Ethernet framing too. */
    if (request.ifr_hwaddr.sa_family != 1 && request.ifr_hwaddr.sa_family != 772) {
        errno = EPROTONOSUPPORT;
        return fail(message, size, io->name, "not an Ethernet interface");
    }
    struct packet_mreq promiscuous = {.mr_ifindex = (int)io->ifindex, .mr_type = PACKET_MR_PROMISC};
    if (setsockopt(io->control, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) != 0)
        return fail(message, size, io->name, "promiscuous mode");
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)io->ifindex};
    if (io->wants_xdp) try_xdp(io, message, size);
    if (io->xdp != NULL) {
        /* AF_XDP does not say when the interface goes; this socket does, if it could receive something. */
        address.sll_protocol = htons(NO_PROTOCOL);
        return bind(io->control, (struct sockaddr *)&address, sizeof address) == 0 || fail(message, size, io->name, "bind");
    }

    io->filter_outgoing = !option(io->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1); /* Linux 4.20 */
    if (!option(io->fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER)) option(io->fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER);
    if (!map_ring(io)) return fail(message, size, io->name, "receive ring");

    address.sll_protocol = htons(ETH_P_ALL);
    if (bind(io->fd, (struct sockaddr *)&address, sizeof address) != 0) return fail(message, size, io->name, "bind");
    return true;
}

dp_io *dp_io_open(const char *interface, bool xdp, char *message, size_t message_size) {
    dp_io *io = calloc(1, sizeof *io);
    if (io == NULL) return NULL;
    io->fd = io->control = -1;
    io->wants_xdp = xdp;
    if (strlen(interface) >= sizeof io->name) {
        errno = ENAMETOOLONG;
        fail(message, message_size, interface, "interface name");
        free(io);
        return NULL;
    }
    strcpy(io->name, interface);
    if (!configure(io, message, message_size)) {
        dp_io_close(io);
        return NULL;
    }
    for (uint32_t i = 0; i < DP_TX_QUEUE; i++) {
        io->tx[i].msg_hdr.msg_iov = io->pieces[i];
        io->tx[i].msg_hdr.msg_iovlen = 2;
    }
    return io;
}

void dp_io_close(dp_io *io) {
    if (io->ring != NULL) munmap(io->ring, (size_t)BLOCK_SIZE * BLOCKS);
    if (io->xdp != NULL) dp_xdp_close(io->xdp);
    if (io->control >= 0) close(io->control);
    free(io);
}

bool dp_io_is_xdp(const dp_io *io) { return io->xdp != NULL; }
bool dp_io_wants_xdp(const dp_io *io) { return io->wants_xdp; }

uint64_t dp_io_missed(dp_io *io) {
    if (io->xdp != NULL) return dp_xdp_missed(io->xdp);
    struct tpacket_stats stats = {0};
    socklen_t size = sizeof stats;
    getsockopt(io->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size);
    return stats.tp_drops;
}

bool dp_io_gone(const dp_io *io) { return if_nametoindex(io->name) != io->ifindex; }

bool dp_io_up(const dp_io *io) {
    struct ifreq request = {0};
    memcpy(request.ifr_name, io->name, sizeof request.ifr_name);
    return ioctl(io->control, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) != 0;
}

/* ------------------------------------------------------------------------------------------------- sending */

void dp_io_queue(p4dp_switch *sw, dp_port *port, const uint8_t *a, uint32_t a_length, const uint8_t *b, uint32_t b_length) {
    dp_io *io = port->io;
    if (io->xdp != NULL) {
        dp_xdp_queue(sw, port, io->xdp, a, a_length, b, b_length);
        return;
    }
    struct iovec *pieces = io->pieces[io->n_tx++];
    pieces[0] = (struct iovec){(void *)(uintptr_t)a, a_length};
    pieces[1] = (struct iovec){(void *)(uintptr_t)b, b_length};
    if (UNLIKELY(io->n_tx == DP_TX_QUEUE)) dp_io_flush(sw, port);
}

void dp_io_flush(p4dp_switch *sw, dp_port *port) {
    dp_io *io = port->io;
    if (io->xdp != NULL) {
        dp_xdp_flush(sw, port, io->xdp);
        return;
    }
    uint32_t done = 0;
    uint64_t bytes = 0, drops = 0;
    while (done < io->n_tx) {
        int sent = sendmmsg(io->fd, io->tx + done, io->n_tx - done, MSG_DONTWAIT);
        if (sent > 0) {
            for (uint32_t i = done; i < done + (uint32_t)sent; i++) bytes += io->pieces[i][0].iov_len + io->pieces[i][1].iov_len;
            done += (uint32_t)sent;
        } else if (sent < 0 && errno == EINTR) {
            continue;
        } else {
            /* One frame was refused: too long for the interface, no room, link down. Like a wire, drop it and go on. */
            drops++;
            done++;
        }
    }
    p4dp_stats_view *both[2] = {&port->stats, &sw->stats};
    for (int i = 0; i < 2; i++) {
        both[i]->tx_packets += io->n_tx - drops;
        both[i]->tx_bytes += bytes;
        both[i]->tx_drops += drops;
    }
    io->n_tx = 0;
}

/* ----------------------------------------------------------------------------------------------- receiving */

/* A frame whose TCP or UDP checksum the sender's stack left to the (virtual) hardware carries only the sum of its pseudo header.
   It would be wrong on any wire, so the checksum is made here. False when the headers are not what that state implies. */
static bool complete_checksum(uint8_t *frame, uint32_t length) {
    uint32_t at = 12;
    while (at + 4 <= length && (frame[at] << 8 | frame[at + 1]) == ETH_P_8021Q) at += 4;
    if (at + 2 > length) return false;
    uint32_t type = (uint32_t)frame[at] << 8 | frame[at + 1], protocol, end;
    at += 2;
    if (type == ETH_P_IP && at + 20 <= length) {
        protocol = frame[at + 9];
        end = at + ((uint32_t)frame[at + 2] << 8 | frame[at + 3]);
        at += (frame[at] & 15u) * 4;
    } else if (type == ETH_P_IPV6 && at + 40 <= length) {
        protocol = frame[at + 6];
        end = at + 40 + ((uint32_t)frame[at + 4] << 8 | frame[at + 5]);
        at += 40;
    } else {
        return false;
    }
    uint32_t field = protocol == 6 ? at + 16 : at + 6;
    if ((protocol != 6 && protocol != 17) || end > length || field + 2 > end) return false;
    uint64_t sum = 0; /* the pseudo header's sum is in the field and is added with the rest */
    for (uint32_t i = at; i + 1 < end; i += 2) sum += (uint32_t)frame[i] << 8 | frame[i + 1];
    if ((end - at) % 2 != 0) sum += (uint32_t)frame[end - 1] << 8;
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    uint16_t checksum = (uint16_t)~sum;
    if (checksum == 0 && protocol == 17) checksum = 0xffff;
    frame[field] = (uint8_t)(checksum >> 8);
    frame[field + 1] = (uint8_t)checksum;
    return true;
}

static struct tpacket2_hdr *slot_at(const dp_io *io, uint32_t slot) {
    return (struct tpacket2_hdr *)(void *)(io->ring + (size_t)(slot / SLOTS_PER_BLOCK) * BLOCK_SIZE + (size_t)(slot % SLOTS_PER_BLOCK) * SLOT_SIZE);
}

static inline uint32_t slot_after(uint32_t slot) { return slot + 1 == SLOTS ? 0 : slot + 1; }

/* The kernel takes VLAN tags out of frames; put one back. */
static uint8_t *restore_vlan(const struct tpacket2_hdr *header, uint8_t *frame) {
    uint16_t type = (header->tp_status & TP_STATUS_VLAN_TPID_VALID) != 0 ? header->tp_vlan_tpid : ETH_P_8021Q;
    uint8_t *start = frame - 4;
    memmove(start, frame, 12);
    start[12] = (uint8_t)(type >> 8);
    start[13] = (uint8_t)type;
    start[14] = (uint8_t)(header->tp_vlan_tci >> 8);
    start[15] = (uint8_t)header->tp_vlan_tci;
    return start;
}

bool dp_io_ready(const dp_io *io) {
    if (io->xdp != NULL) return dp_xdp_ready(io->xdp);
    return (__atomic_load_n(&slot_at(io, io->slot)->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) != 0;
}

static void process_slot(p4dp_switch *sw, dp_port *port, const struct tpacket2_hdr *header) {
    uint8_t *frame = (uint8_t *)(uintptr_t)header + header->tp_mac;
    uint32_t length = header->tp_len;
    if (UNLIKELY(port->io->filter_outgoing)) {
        const struct sockaddr_ll *from = (const void *)((const uint8_t *)header + TPACKET_ALIGN(sizeof *header));
        if (from->sll_pkttype == PACKET_OUTGOING) return;
    }
    bool tagged = (header->tp_status & TP_STATUS_VLAN_VALID) != 0 && length >= 12;
    if (UNLIKELY(header->tp_snaplen != length || length + (tagged ? 4 : 0) > DP_FRAME_MAX)) {
        sw->stats.rx_oversized++;
        port->stats.rx_oversized++;
        return;
    }
    if (UNLIKELY((header->tp_status & TP_STATUS_CSUMNOTREADY) != 0)) complete_checksum(frame, length);
    if (UNLIKELY(tagged)) {
        frame = restore_vlan(header, frame);
        length += 4;
    }
    dp_engine_packet(sw, port->number, frame, length);
}

/* The next frame was written by another CPU: fetch its headers while this one is processed. */
static inline void prefetch_frame(const struct tpacket2_hdr *header) {
    const uint8_t *start = (const uint8_t *)header;
    for (uint32_t line = 0; line < 4; line++) __builtin_prefetch(start + 64 * (size_t)line);
}

uint32_t dp_io_receive(p4dp_switch *sw, dp_port *port) {
    dp_io *io = port->io;
    if (io->xdp != NULL) return dp_xdp_receive(sw, port, io->xdp);
    uint32_t first = io->slot, count = 0;
    for (; count < DP_RX_BATCH && dp_io_ready(io); count++) {
        prefetch_frame(slot_at(io, slot_after(io->slot)));
        if (LIKELY(sw->env != NULL))
            process_slot(sw, port, slot_at(io, io->slot));
        else
            sw->stats.dropped++; /* no program yet */
        io->slot = slot_after(io->slot);
    }
    /* Payloads are sent from where they lie, so the kernel gets the slots back only now. */
    dp_engine_flush(sw);
    for (uint32_t i = 0; i < count; i++, first = slot_after(first))
        __atomic_store_n(&slot_at(io, first)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    return count;
}

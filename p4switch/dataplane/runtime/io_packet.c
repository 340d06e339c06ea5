/* The socket of one port: AF_PACKET, raw, all frames that arrive on the interface and none that leave it.
 *
 * Frames go out through the interface's queueing discipline, so that traffic control (rates and delays of an emulated link) works.
 * Outgoing frames are queued as two pieces, the headers that were just written and the payload where it was received, and
 * handed to the kernel in one call at the end of a batch.
 */
#include "io_packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SOCKET_BUFFER (16 * 1024 * 1024)

static bool fail(char *message, size_t size, const char *interface, const char *what) {
    if (message != NULL) snprintf(message, size, "%s: %s: %s", interface, what, strerror(errno));
    return false;
}

static bool option(int fd, int level, int name, int value) { return setsockopt(fd, level, name, &value, sizeof value) == 0; }

static bool configure(dp_io *io, char *message, size_t size) {
    io->ifindex = if_nametoindex(io->name);
    if (io->ifindex == 0) return fail(message, size, io->name, "no such interface");
    /* Protocol 0 receives nothing until bind, so that no frame of another interface gets in. */
    io->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (io->fd < 0) return fail(message, size, io->name, "packet socket");

    struct ifreq request = {0};
    memcpy(request.ifr_name, io->name, sizeof request.ifr_name);
    if (ioctl(io->fd, SIOCGIFHWADDR, &request) != 0) return fail(message, size, io->name, "hardware address");
    /* 1 is Ethernet (ARPHRD_ETHER), 772 loopback, which has Ethernet framing too. */
    if (request.ifr_hwaddr.sa_family != 1 && request.ifr_hwaddr.sa_family != 772) {
        errno = EPROTONOSUPPORT;
        return fail(message, size, io->name, "not an Ethernet interface");
    }
    if (!option(io->fd, SOL_PACKET, PACKET_AUXDATA, 1)) return fail(message, size, io->name, "PACKET_AUXDATA");
    io->filter_outgoing = !option(io->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1); /* Linux 4.20 */
    if (!option(io->fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER)) option(io->fd, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER);
    if (!option(io->fd, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER)) option(io->fd, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER);

    struct packet_mreq promiscuous = {.mr_ifindex = (int)io->ifindex, .mr_type = PACKET_MR_PROMISC};
    if (setsockopt(io->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) != 0)
        return fail(message, size, io->name, "promiscuous mode");
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)io->ifindex};
    if (bind(io->fd, (struct sockaddr *)&address, sizeof address) != 0) return fail(message, size, io->name, "bind");
    return true;
}

dp_io *dp_io_open(const char *interface, char *message, size_t message_size) {
    dp_io *io = calloc(1, sizeof *io);
    if (io == NULL) return NULL;
    io->fd = -1;
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
    if (io->fd >= 0) close(io->fd);
    free(io);
}

bool dp_io_gone(const dp_io *io) { return if_nametoindex(io->name) != io->ifindex; }

/* ------------------------------------------------------------------------------------------------- sending */

void dp_io_queue(p4dp_switch *sw, dp_port *port, const uint8_t *a, uint32_t a_length, const uint8_t *b, uint32_t b_length) {
    dp_io *io = port->io;
    struct iovec *pieces = io->pieces[io->n_tx++];
    pieces[0] = (struct iovec){(void *)(uintptr_t)a, a_length};
    pieces[1] = (struct iovec){(void *)(uintptr_t)b, b_length};
    if (UNLIKELY(io->n_tx == DP_TX_QUEUE)) dp_io_flush(sw, port);
}

void dp_io_flush(p4dp_switch *sw, dp_port *port) {
    dp_io *io = port->io;
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

dp_rx *dp_rx_new(void) {
    dp_rx *rx = aligned_alloc(64, dp_align(sizeof *rx, 64));
    if (rx == NULL) return NULL;
    memset(rx, 0, sizeof *rx);
    rx->dirty = DP_RX_BATCH;
    for (uint32_t i = 0; i < DP_RX_BATCH; i++) {
        rx->piece[i] = (struct iovec){rx->buffer[i] + DP_RX_HEADROOM, DP_FRAME_MAX};
        struct msghdr *header = &rx->message[i].msg_hdr;
        header->msg_iov = &rx->piece[i];
        header->msg_iovlen = 1;
        header->msg_name = &rx->from[i];
        header->msg_control = rx->control[i];
    }
    return rx;
}

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

/* What the kernel took out of the frame or left undone: VLAN tag, checksum. */
static void apply_auxdata(struct msghdr *header, uint8_t **frame, uint32_t *length) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA) continue;
        struct tpacket_auxdata aux;
        memcpy(&aux, CMSG_DATA(c), sizeof aux);
        if (UNLIKELY((aux.tp_status & TP_STATUS_CSUMNOTREADY) != 0)) complete_checksum(*frame, *length);
        if (UNLIKELY((aux.tp_status & TP_STATUS_VLAN_VALID) != 0) && *length >= 12) {
            uint16_t tag = (aux.tp_status & TP_STATUS_VLAN_TPID_VALID) != 0 ? aux.tp_vlan_tpid : ETH_P_8021Q;
            *frame -= 4;
            *length += 4;
            memmove(*frame, *frame + 4, 12);
            (*frame)[12] = (uint8_t)(tag >> 8);
            (*frame)[13] = (uint8_t)tag;
            (*frame)[14] = (uint8_t)(aux.tp_vlan_tci >> 8);
            (*frame)[15] = (uint8_t)aux.tp_vlan_tci;
        }
    }
}

int dp_io_receive(p4dp_switch *sw, dp_port *port, dp_rx *rx) {
    for (uint32_t i = 0; i < rx->dirty; i++) {
        rx->message[i].msg_hdr.msg_controllen = sizeof rx->control[i];
        rx->message[i].msg_hdr.msg_namelen = sizeof rx->from[i];
    }
    int received = recvmmsg(port->io->fd, rx->message, DP_RX_BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
    rx->dirty = received > 0 ? (uint32_t)received : DP_RX_BATCH;
    for (int i = 0; i < received; i++) {
        struct msghdr *header = &rx->message[i].msg_hdr;
        uint8_t *frame = rx->buffer[i] + DP_RX_HEADROOM;
        uint32_t length = rx->message[i].msg_len;
        if (UNLIKELY(port->io->filter_outgoing) && rx->from[i].sll_pkttype == PACKET_OUTGOING) continue;
        if (UNLIKELY(length > DP_FRAME_MAX)) {
            sw->stats.rx_oversized++;
            port->stats.rx_oversized++;
            continue;
        }
        apply_auxdata(header, &frame, &length);
        dp_engine_packet(sw, port->number, frame, length);
    }
    return received;
}

int dp_io_discard(dp_port *port, dp_rx *rx) {
    rx->dirty = DP_RX_BATCH;
    return recvmmsg(port->io->fd, rx->message, DP_RX_BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
}

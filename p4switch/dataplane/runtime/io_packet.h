/* The socket of a port and the receive buffers, as io_packet.c and io_loop.c share them. */
#ifndef P4DP_IO_PACKET_H
#define P4DP_IO_PACKET_H

#include "internal.h"

#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>

#define DP_TX_QUEUE 256u
#define DP_RX_BATCH 64u
#define DP_RX_HEADROOM 64u /* a VLAN tag may be put back in front */

struct dp_io {
    int fd;
    char name[IF_NAMESIZE];
    uint32_t ifindex;
    bool filter_outgoing; /* the kernel cannot do it */
    uint32_t n_tx;
    struct mmsghdr tx[DP_TX_QUEUE];
    struct iovec pieces[DP_TX_QUEUE][2];
};

typedef struct dp_rx {
    uint32_t dirty; /* messages whose control length the kernel has changed */
    struct mmsghdr message[DP_RX_BATCH];
    struct iovec piece[DP_RX_BATCH];
    struct sockaddr_ll from[DP_RX_BATCH];
    _Alignas(8) uint8_t control[DP_RX_BATCH][CMSG_SPACE(sizeof(struct tpacket_auxdata))];
    _Alignas(64) uint8_t buffer[DP_RX_BATCH][DP_RX_HEADROOM + DP_FRAME_MAX];
} dp_rx;

dp_rx *dp_rx_new(void);
/* Receive and process up to one batch; the frames stay valid until the next call. The number received, or negative with errno. */
int dp_io_receive(p4dp_switch *sw, dp_port *port, dp_rx *rx);
/* Receive a batch and forget it. */
int dp_io_discard(dp_port *port, dp_rx *rx);
/* The interface no longer exists, or another one has its name. */
bool dp_io_gone(const dp_io *io);

#endif

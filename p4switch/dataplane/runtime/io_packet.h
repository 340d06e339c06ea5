/* The socket of a port, as io_packet.c and io_loop.c share it. */
#ifndef P4DP_IO_PACKET_H
#define P4DP_IO_PACKET_H

#include "internal.h"
#include "io_xdp.h"

#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>

#define DP_TX_QUEUE 256u
#define DP_RX_BATCH 64u

struct dp_io {
    int fd; /* to wait on: the control socket or that of AF_XDP */
    int control; /* a packet socket: receives and sends unless there is AF_XDP */
    bool wants_xdp;
    dp_xdp *xdp; /* NULL: AF_PACKET */
    char name[IF_NAMESIZE];
    uint32_t ifindex;
    bool filter_outgoing; /* the kernel cannot do it */
    uint8_t *ring; /* received frames, shared with the kernel */
    uint32_t slot; /* the next to look at */
    uint32_t n_tx;
    struct mmsghdr tx[DP_TX_QUEUE];
    struct iovec pieces[DP_TX_QUEUE][2];
};

/* A frame waits. */
bool dp_io_ready(const dp_io *io);
/* Process and flush up to one batch; returns its size. */
uint32_t dp_io_receive(p4dp_switch *sw, dp_port *port);
/* The interface no longer exists, or another one has its name. */
bool dp_io_gone(const dp_io *io);
bool dp_io_up(const dp_io *io);

#endif

/* A port on AF_XDP: see io_xdp.c. The calls mirror those of io_packet.h. */
#ifndef P4DP_IO_XDP_H
#define P4DP_IO_XDP_H

#include "internal.h"

typedef struct dp_xdp dp_xdp;

/* NULL when the kernel or the interface cannot; `message` says why. `control` is a socket to ask about the interface with. */
dp_xdp *dp_xdp_open(uint32_t ifindex, int control, char *message, size_t message_size);
void dp_xdp_close(dp_xdp *xdp);
int dp_xdp_socket(const dp_xdp *xdp); /* to wait on */
bool dp_xdp_ready(const dp_xdp *xdp);
uint32_t dp_xdp_receive(p4dp_switch *sw, dp_port *port, dp_xdp *xdp);
void dp_xdp_queue(p4dp_switch *sw, dp_port *port, dp_xdp *xdp, const uint8_t *a, uint32_t a_length, const uint8_t *b, uint32_t b_length);
void dp_xdp_flush(p4dp_switch *sw, dp_port *port, dp_xdp *xdp);
uint64_t dp_xdp_missed(dp_xdp *xdp); /* since the last call */

#endif

/* The yardstick: the least a user-space switch on AF_PACKET can do. Frames go from one interface to the other and back, in batches,
 * unchanged and unlooked at.
 *
 * usage: forwarder IF IF        ends on SIGTERM or when its parent does
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define BATCH 64
#define FRAME 9216

static int open_interface(const char *name) {
    int one = 1, size = 16 << 20, fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(name)};
    struct packet_mreq promiscuous = {.mr_ifindex = address.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
    if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror(name);
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv) {
    static uint8_t buffers[BATCH][FRAME];
    static struct iovec pieces[BATCH];
    static struct mmsghdr messages[BATCH];
    if (argc != 3) {
        fprintf(stderr, "usage: forwarder IF IF\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct pollfd ports[2];
    for (int i = 0; i < 2; i++) ports[i] = (struct pollfd){.fd = open_interface(argv[1 + i]), .events = POLLIN};
    for (int i = 0; i < BATCH; i++) {
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        if (poll(ports, 2, -1) < 0 && errno != EINTR) return 1;
        for (int from = 0; from < 2; from++) {
            if ((ports[from].revents & POLLIN) == 0) continue;
            for (int i = 0; i < BATCH; i++) pieces[i] = (struct iovec){buffers[i], FRAME};
            int received = recvmmsg(ports[from].fd, messages, BATCH, MSG_DONTWAIT, NULL);
            for (int i = 0; i < received; i++) pieces[i].iov_len = messages[i].msg_len;
            for (int sent = 0; sent < received;) {
                int more = sendmmsg(ports[1 - from].fd, messages + sent, (unsigned)(received - sent), MSG_DONTWAIT);
                sent += more > 0 ? more : 1;
            }
        }
    }
}

/* Makes traffic for measurements. Every mode ends by itself.
 *
 * usage: traffic send IF FILE SIZE SECONDS           as fast as possible; prints the number of frames
 *        traffic pace IF FILE SIZE RATE SECONDS      RATE frames a second, in a small burst every millisecond; prints their number, also on SIGTERM
 *        traffic echo IF FILE SIZE SECONDS           answers every frame of the same EtherType with the file's first
 *        traffic ping IF FILE SIZE COUNT SECONDS     one frame at a time, waits for an answer; prints round trips in ns, one a line
 * FILE holds Ethernet frames of SIZE bytes, one after the other; they are sent in turn. Frames with another EtherType than the
 * first's are ignored.
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
#include <time.h>

#define BATCH 32
#define FRAME 9216

static uint8_t *frames;
static size_t length, n_frames;

static uint8_t *next_frame(void) {
    static size_t at;
    uint8_t *frame = frames + at * length;
    at = at + 1 == n_frames ? 0 : at + 1;
    return frame;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int open_interface(const char *name, int receive) {
    int one = 1, size = 16 << 20, fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET,
        .sll_protocol = receive ? htons((uint16_t)(frames[12] << 8 | frames[13])) : 0,
        .sll_ifindex = (int)if_nametoindex(name),
    };
    struct packet_mreq promiscuous = {.mr_ifindex = address.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
    if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail(name);
    return fd;
}

static void send_all(int fd, uint64_t end) {
    static struct iovec pieces[BATCH];
    static struct mmsghdr messages[BATCH];
    uint64_t sent = 0;
    for (int i = 0; i < BATCH; i++) {
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    while (now_ns() < end) {
        for (int i = 0; i < BATCH; i++) pieces[i] = (struct iovec){next_frame(), length};
        int more = sendmmsg(fd, messages, BATCH, 0);
        if (more > 0) sent += (uint64_t)more;
        else if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR) fail("send");
    }
    printf("%llu\n", (unsigned long long)sent);
}

static volatile sig_atomic_t stopped;

static void stop(int number) {
    (void)number;
    stopped = 1;
}

static void send_paced(int fd, uint64_t rate, uint64_t start, uint64_t end) {
    uint64_t sent = 0, tick = start;
    while (!stopped && (tick += 1000000u) < end) {
        struct timespec wake = {.tv_sec = (time_t)(tick / 1000000000u), .tv_nsec = (long)(tick % 1000000000u)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL) == EINTR && !stopped) continue;
        if (now_ns() > tick + 20000000u) { /* the machine held us up: go on from here, a flood is not what was asked for */
            start += now_ns() - tick;
            tick = now_ns();
        }
        for (uint64_t due = (tick - start) * rate / 1000000000u; sent < due;) {
            if (send(fd, next_frame(), length, 0) >= 0) sent++;
            else if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR) fail("send");
        }
    }
    printf("%llu\n", (unsigned long long)sent);
}

static int wait_for(int fd, uint64_t end) {
    uint8_t buffer[FRAME];
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    for (;;) {
        uint64_t now = now_ns();
        if (now >= end) return 0;
        if (poll(&ready, 1, (int)((end - now) / 1000000 + 1)) > 0 && recv(fd, buffer, sizeof buffer, MSG_DONTWAIT) > 0) return 1;
    }
}

int main(int argc, char **argv) {
    if (argc < 6 || (argc < 7 && (strcmp(argv[1], "ping") == 0 || strcmp(argv[1], "pace") == 0))) {
        fprintf(stderr, "usage: traffic send|pace|echo|ping IF FILE SIZE ...\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    FILE *file = fopen(argv[3], "rb");
    length = strtoul(argv[4], NULL, 10);
    if (file == NULL) fail(argv[3]);
    fseek(file, 0, SEEK_END);
    size_t total = (size_t)ftell(file);
    rewind(file);
    if (length < 14 || length > FRAME || total < length || total % length != 0) {
        fprintf(stderr, "%s: not frames of %zu bytes\n", argv[3], length);
        return 2;
    }
    n_frames = total / length;
    frames = malloc(total);
    if (frames == NULL || fread(frames, 1, total, file) != total) fail(argv[3]);
    fclose(file);
    int sending = strcmp(argv[1], "send") == 0, pacing = strcmp(argv[1], "pace") == 0, pinging = strcmp(argv[1], "ping") == 0;
    int fd = open_interface(argv[2], !sending && !pacing);
    uint64_t end = now_ns() + (uint64_t)(atof(argv[argc - 1]) * 1e9);
    puts("ready");
    fflush(stdout);
    if (sending) {
        send_all(fd, end);
        return 0;
    }
    if (pacing) {
        signal(SIGTERM, stop);
        send_paced(fd, strtoull(argv[5], NULL, 10), now_ns(), end);
        return 0;
    }
    long count = pinging ? atol(argv[5]) : 0;
    for (long i = 0; !pinging || i < count; i++) {
        uint64_t started = now_ns();
        if (pinging && send(fd, next_frame(), length, 0) < 0) fail("send");
        uint64_t patience = started + 1000000000u;
        if (!wait_for(fd, pinging && patience < end ? patience : end)) {
            if (now_ns() >= end) return 0;
            printf("lost\n");
            continue;
        }
        if (pinging) printf("%llu\n", (unsigned long long)(now_ns() - started));
        else if (send(fd, frames, length, 0) < 0 && errno != ENOBUFS) fail("send");
    }
    return 0;
}

/* Captures: a pcapng file for each port, frames in both directions, with the direction of each and nanoseconds.
 *
 * What goes to the kernel at once are whole blocks, so that the file of a switch that was killed ends with one (unless SIGKILL comes
 * within that call).
 */
#include "internal.h"

#include <stdlib.h>

#define BUFFER_SIZE (128u * 1024u) /* more than the largest block */

/* Blocks of pcapng (draft-ietf-opsawg-pcapng, section 4), in the byte order of this machine. Lengths are multiples of four. */
enum { SECTION = 0x0a0d0d0a, INTERFACE = 1, PACKET = 6 };
enum { OPT_END = 0, IF_NAME = 2, IF_TSRESOL = 9, EPB_FLAGS = 2 };
enum { MAX_FRAME = 262144 };

static uint32_t padded(uint32_t length) { return (length + 3) & ~3u; }

static bool put(FILE *file, const void *data, uint32_t length) {
    static const char zeros[4];
    return (length == 0 || fwrite(data, 1, length, file) == length) && fwrite(zeros, 1, padded(length) - length, file) == padded(length) - length;
}

static bool put_section(FILE *file) {
    struct {
        uint32_t type, length, magic;
        uint16_t major, minor;
        uint32_t size[2], again;
    } block = {SECTION, sizeof block, 0x1a2b3c4d, 1, 0, {UINT32_MAX, UINT32_MAX}, sizeof block};
    return put(file, &block, sizeof block);
}

static bool put_interface(FILE *file, uint32_t number) {
    char name[16];
    uint16_t named = (uint16_t)snprintf(name, sizeof name, "port %u", number);
    struct {
        uint32_t type, length;
        uint16_t link_type, reserved;
        uint32_t most;
        uint16_t code, size; /* of the first option, the name */
    } head = {INTERFACE, 0, 1 /* Ethernet */, 0, MAX_FRAME, IF_NAME, named};
    struct {
        uint16_t code, size;
        uint8_t nanoseconds[4];
        uint16_t end, none;
        uint32_t length;
    } tail = {IF_TSRESOL, 1, {9, 0, 0, 0}, OPT_END, 0, 0};
    head.length = tail.length = (uint32_t)(sizeof head + padded(named) + sizeof tail);
    return put(file, &head, sizeof head) && put(file, name, named) && put(file, &tail, sizeof tail);
}

static void free_buffer(dp_port *port) {
    free(port->pcap_buffer);
    port->pcap_buffer = NULL;
}

bool dp_pcap_open(p4dp_switch *sw, dp_port *port) {
    if (sw->pcap_directory == NULL || port->pcap != NULL) return true;
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/port%u.pcapng", sw->pcap_directory, port->number);
    if (length < 0 || (size_t)length >= sizeof path) return false;
    FILE *file = fopen(path, "wb");
    if (file == NULL) return false;
    /* glibc takes a size only with a buffer. */
    port->pcap_buffer = malloc(BUFFER_SIZE);
    if (port->pcap_buffer == NULL || setvbuf(file, port->pcap_buffer, _IOFBF, BUFFER_SIZE) != 0) {
        fclose(file);
        free_buffer(port);
        return false;
    }
    if (!put_section(file) || !put_interface(file, port->number)) {
        fclose(file);
        free_buffer(port);
        return false;
    }
    port->pcap = file;
    port->pcap_used = (size_t)ftell(file);
    return true;
}

void dp_pcap_write(
    dp_port *port, dp_direction direction, const uint8_t *a, uint32_t a_length, const uint8_t *b, uint32_t b_length
) {
    uint64_t now = dp_realtime_ns();
    uint32_t frame = a_length + b_length;
    struct {
        uint32_t type, length, interface, high, low, captured, original;
    } head = {PACKET, 0, 0, (uint32_t)(now >> 32), (uint32_t)now, frame, frame};
    struct {
        uint16_t code, size;
        uint32_t flags;
        uint16_t end, none;
        uint32_t length;
    } tail = {EPB_FLAGS, 4, direction, OPT_END, 0, 0};
    head.length = tail.length = (uint32_t)(sizeof head + padded(frame) + sizeof tail);
    static const uint8_t zeros[4];
    if (port->pcap_used + head.length > BUFFER_SIZE) {
        fflush(port->pcap);
        port->pcap_used = 0;
    }
    port->pcap_used += head.length;
    fwrite(&head, sizeof head, 1, port->pcap);
    if (a_length > 0) fwrite(a, 1, a_length, port->pcap);
    if (b_length > 0) fwrite(b, 1, b_length, port->pcap);
    fwrite(zeros, 1, padded(frame) - frame, port->pcap);
    fwrite(&tail, sizeof tail, 1, port->pcap);
}

void dp_pcap_close(p4dp_switch *sw) {
    for (uint32_t i = 0; i < DP_PORTS; i++)
        if (sw->ports[i] != NULL && sw->ports[i]->pcap != NULL) {
            fclose(sw->ports[i]->pcap);
            sw->ports[i]->pcap = NULL;
            free_buffer(sw->ports[i]);
        }
    free(sw->pcap_directory);
    sw->pcap_directory = NULL;
}

int p4dp_pcap(p4dp_switch *sw, const char *directory) {
    int result = 0;
    dp_gate_enter(&sw->gate);
    dp_pcap_close(sw);
    if (directory != NULL) {
        sw->pcap_directory = strdup(directory);
        if (sw->pcap_directory == NULL) result = P4DP_ENOMEM;
        for (uint32_t i = 0; i < DP_PORTS && result == 0; i++)
            if (sw->ports[i] != NULL && !dp_pcap_open(sw, sw->ports[i])) result = P4DP_EIO;
        if (result != 0) dp_pcap_close(sw);
    }
    dp_gate_leave(&sw->gate);
    return result;
}

/* Captures: a pcap file for each port, frames in both directions. */
#include "internal.h"

#include <stdlib.h>

bool dp_pcap_open(p4dp_switch *sw, dp_port *port) {
    if (sw->pcap_directory == NULL || port->pcap != NULL) return true;
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/port%u.pcap", sw->pcap_directory, port->number);
    if (length < 0 || (size_t)length >= sizeof path) return false;
    port->pcap = fopen(path, "wb");
    if (port->pcap == NULL) return false;
    /* Classic pcap, microseconds, LINKTYPE_ETHERNET; in the byte order of this machine, as the format has it. */
    struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t zone, accuracy, snap_length, link_type;
    } header = {0xa1b2c3d4u, 2, 4, 0, 0, 262144, 1};
    fwrite(&header, sizeof header, 1, port->pcap);
    return true;
}

void dp_pcap_write(p4dp_switch *sw, dp_port *port, const uint8_t *a, uint32_t a_length, const uint8_t *b, uint32_t b_length) {
    (void)sw;
    uint64_t now = dp_realtime_ns();
    uint32_t header[4] = {(uint32_t)(now / 1000000000u), (uint32_t)(now % 1000000000u / 1000), a_length + b_length, a_length + b_length};
    fwrite(header, sizeof header, 1, port->pcap);
    if (a_length > 0) fwrite(a, 1, a_length, port->pcap);
    if (b_length > 0) fwrite(b, 1, b_length, port->pcap);
}

void dp_pcap_close(p4dp_switch *sw) {
    for (uint32_t i = 0; i < DP_PORTS; i++)
        if (sw->ports[i] != NULL && sw->ports[i]->pcap != NULL) {
            fclose(sw->ports[i]->pcap);
            sw->ports[i]->pcap = NULL;
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

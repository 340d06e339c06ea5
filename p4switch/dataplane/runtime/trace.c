/* Traces for people and pcap files. Nothing here runs unless somebody asked for a trace or a capture. */
#include "internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#define LOG_LIMIT 1000u /* lines of log_msg that go to stderr without a trace */

static void print_prefix(p4prog_env *env) {
    p4dp_switch *sw = env->sw;
    fprintf(sw->trace, "%llu.%06llu #%llu ", (unsigned long long)(env->now_us / 1000000), (unsigned long long)(env->now_us % 1000000),
            (unsigned long long)sw->packet);
}

void dp_trace_line(p4prog_env *env, const char *format, ...) {
    if (env->sw->trace == NULL) return;
    va_list arguments;
    va_start(arguments, format);
    print_prefix(env);
    vfprintf(env->sw->trace, format, arguments);
    fputc('\n', env->sw->trace);
    va_end(arguments);
}

static void print_field(FILE *file, const uint8_t *bytes, uint32_t width) {
    uint32_t size = dp_bytes(width), i = 0;
    fputs("0x", file);
    while (i + 1 < size && bytes[i] == 0) i++;
    fprintf(file, "%x", size == 0 ? 0u : bytes[i]);
    for (i++; i < size; i++) fprintf(file, "%02x", bytes[i]);
}

void dp_trace_lookup(p4prog_env *env, const dp_table *t, const uint8_t *key, uint32_t entry, const p4prog_match *match) {
    FILE *file = env->sw->trace;
    if (file == NULL) return;
    print_prefix(env);
    fprintf(file, "table %s: %s", t->desc->name, entry != DP_NONE ? "hit" : "miss");
    for (uint32_t k = 0; k < t->desc->n_keys; k++) {
        fprintf(file, "%s%s=", k == 0 ? ", key " : " ", t->desc->keys[k].name);
        print_field(file, key + t->desc->keys[k].offset, t->desc->keys[k].width);
    }
    const p4prog_action *action = &env->program->actions[match->action];
    fprintf(file, ", action %s(", action->name);
    for (uint32_t i = 0; i < action->n_params; i++) {
        fprintf(file, "%s%s=", i == 0 ? "" : ", ", action->params[i].name);
        print_field(file, match->data + action->params[i].offset, action->params[i].width);
    }
    fputs(")\n", file);
}

bool p4prog_tracing(const p4prog_env *env) { return env->tracing; }

void p4prog_trace(p4prog_env *env, const char *format, ...) {
    if (env->sw->trace == NULL) return;
    va_list arguments;
    va_start(arguments, format);
    print_prefix(env);
    vfprintf(env->sw->trace, format, arguments);
    fputc('\n', env->sw->trace);
    va_end(arguments);
}

void p4prog_log(p4prog_env *env, const char *format, ...) {
    FILE *file = env->sw->trace;
    if (file == NULL && env->sw->logs++ >= LOG_LIMIT) {
        if (env->sw->logs == LOG_LIMIT + 1) fputs("p4switch: further log messages are left out; use a trace to see all\n", stderr);
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    if (file != NULL)
        print_prefix(env);
    else
        fprintf(file = stderr, "p4switch: packet %llu: ", (unsigned long long)env->sw->packet);
    fputs("log: ", file);
    vfprintf(file, format, arguments);
    fputc('\n', file);
    va_end(arguments);
}

void dp_trace_flush(p4dp_switch *sw) {
    if (sw->trace != NULL) fflush(sw->trace);
    if (sw->pcap_directory == NULL) return;
    for (uint32_t i = 0; i < DP_PORTS; i++)
        if (sw->ports[i] != NULL && sw->ports[i]->pcap != NULL) fflush(sw->ports[i]->pcap);
}

int p4dp_trace(p4dp_switch *sw, const char *file) {
    FILE *opened = NULL;
    if (file != NULL && (opened = fopen(file, "w")) == NULL) return P4DP_EIO;
    dp_gate_enter(&sw->gate);
    FILE *old = sw->trace;
    sw->trace = opened;
    if (sw->env != NULL) sw->env->tracing = opened != NULL;
    dp_gate_leave(&sw->gate);
    if (old != NULL) fclose(old);
    return 0;
}

/* -------------------------------------------------------------------------------------------------- pcap */

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

static void close_pcaps(p4dp_switch *sw) {
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
    close_pcaps(sw);
    if (directory != NULL) {
        sw->pcap_directory = strdup(directory);
        if (sw->pcap_directory == NULL) result = P4DP_ENOMEM;
        for (uint32_t i = 0; i < DP_PORTS && result == 0; i++)
            if (sw->ports[i] != NULL && !dp_pcap_open(sw, sw->ports[i])) result = P4DP_EIO;
        if (result != 0) close_pcaps(sw);
    }
    dp_gate_leave(&sw->gate);
    return result;
}

void dp_trace_close(p4dp_switch *sw) {
    close_pcaps(sw);
    if (sw->trace != NULL) fclose(sw->trace);
    sw->trace = NULL;
}

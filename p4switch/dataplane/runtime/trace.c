/* Traces: what happened to each packet, as lines for people or as JSON, one object a line. Nothing here runs unless somebody asked.
 *
 * An event has a name and a format that makes both kinds of line: `%u{port}` is a number in the text and "port" in the JSON.
 */
#include "internal.h"

#include <stdarg.h>
#include <stdlib.h>

#define LOG_LIMIT 1000u /* lines of log_msg that go to stderr without a trace */

/* ---------------------------------------------------------------------------------------------------- writing */

static void json_string(FILE *file, const char *text) {
    fputc('"', file);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(file, "\\%c", c);
        else if (c < 0x20)
            fprintf(file, "\\u%04x", c);
        else
            fputc(c, file);
    }
    fputc('"', file);
}

static void begin(p4prog_env *env, const char *event) {
    const p4dp_switch *sw = env->sw;
    unsigned long long us = env->now_us, packet = sw->packet;
    if (sw->trace_json) {
        fprintf(sw->trace, "{\"time_us\": %llu, \"packet\": %llu, \"event\": ", us, packet);
        json_string(sw->trace, event);
    } else {
        fprintf(sw->trace, "%llu.%06llu #%llu ", us / 1000000, us % 1000000, packet);
        for (const char *c = event; *c != '\0'; c++) fputc(*c == '_' ? ' ' : *c, sw->trace);
    }
}

static void end(const p4dp_switch *sw) { fputs(sw->trace_json ? "}\n" : "\n", sw->trace); }

/* Conversions: u for uint32_t, s for strings. Text between them is for people only. */
static void fields(const p4dp_switch *sw, const char *format, va_list arguments) {
    FILE *file = sw->trace;
    for (const char *c = format; *c != '\0'; c++) {
        if (*c != '%') {
            if (!sw->trace_json) fputc(*c, file);
            continue;
        }
        char conversion = *++c;
        const char *name = c + 1;
        uint32_t number = conversion == 'u' ? va_arg(arguments, uint32_t) : 0;
        const char *text = conversion == 's' ? va_arg(arguments, const char *) : "";
        int length = 0;
        if (*name == '{')
            for (name++; name[length] != '}';) length++;
        if (sw->trace_json && length > 0) {
            fprintf(file, ", \"%.*s\": ", length, name);
            if (conversion == 's')
                json_string(file, text);
            else
                fprintf(file, "%u", number);
        } else if (!sw->trace_json) {
            if (conversion == 's')
                fputs(text, file);
            else
                fprintf(file, "%u", number);
        }
        if (length > 0) c = name + length;
    }
}

void dp_trace_event(p4prog_env *env, const char *event, const char *format, ...) {
    if (env->sw->trace == NULL) return;
    va_list arguments;
    begin(env, event);
    if (!env->sw->trace_json && format[0] != '\0' && format[0] != ':') fputc(' ', env->sw->trace);
    va_start(arguments, format);
    fields(env->sw, format, arguments);
    va_end(arguments);
    end(env->sw);
}

static void print_number(FILE *file, const uint8_t *bytes, uint32_t width) {
    uint32_t size = dp_bytes(width), i = 0;
    fputs("0x", file);
    while (i + 1 < size && bytes[i] == 0) i++;
    fprintf(file, "%x", size == 0 ? 0u : bytes[i]);
    for (i++; i < size; i++) fprintf(file, "%02x", bytes[i]);
}

/* One named number of a list; `first` starts it. */
static void print_named(const p4dp_switch *sw, bool first, const char *separator, const char *name, const uint8_t *bytes, uint32_t width) {
    if (!first) fputs(sw->trace_json ? ", " : separator, sw->trace);
    if (sw->trace_json) {
        json_string(sw->trace, name);
        fputs(": \"", sw->trace);
    } else {
        fprintf(sw->trace, "%s=", name);
    }
    print_number(sw->trace, bytes, width);
    if (sw->trace_json) fputc('"', sw->trace);
}

/* name(param=value, ...) */
static void print_call(const p4dp_switch *sw, const char *what, const char *name, const p4prog_param *params, uint32_t count,
                       const uint8_t *data) {
    if (sw->trace_json) {
        fprintf(sw->trace, ", \"%s\": ", what);
        json_string(sw->trace, name);
        fputs(", \"args\": {", sw->trace);
    } else {
        fprintf(sw->trace, "%s(", name);
    }
    for (uint32_t i = 0; i < count; i++) print_named(sw, i == 0, ", ", params[i].name, data + params[i].offset, params[i].width);
    fputc(sw->trace_json ? '}' : ')', sw->trace);
}

void dp_trace_lookup(p4prog_env *env, const dp_table *t, const uint8_t *key, uint32_t index, const p4prog_match *match) {
    const p4dp_switch *sw = env->sw;
    FILE *file = sw->trace;
    if (file == NULL) return;
    bool hit = index != DP_NONE, json = sw->trace_json;
    const dp_entry *entry = hit ? dp_table_entry(t, index) : NULL;
    p4dp_entry_kind kind = hit ? (p4dp_entry_kind)entry->kind : t->default_kind;
    begin(env, "table");
    if (json) {
        fputs(", \"table\": ", file);
        json_string(file, t->desc->name);
        fprintf(file, ", \"hit\": %s, \"key\": {", hit ? "true" : "false");
    } else {
        fprintf(file, " %s: %s%s", t->desc->name, hit ? "hit" : "miss", t->desc->n_keys > 0 ? ", key " : "");
    }
    for (uint32_t k = 0; k < t->desc->n_keys; k++)
        print_named(sw, k == 0, " ", t->desc->keys[k].name, key + t->desc->keys[k].offset, t->desc->keys[k].width);
    if (json) fputc('}', file);
    if (hit) fprintf(file, json ? ", \"handle\": \"0x%llx\"" : ", entry 0x%llx", (unsigned long long)t->cold[index].handle);
    if (hit && t->kind == DP_TERNARY) fprintf(file, json ? ", \"priority\": %d" : " priority %d", entry->priority);
    if (kind == P4DP_GROUP) fprintf(file, json ? ", \"group\": %u" : ", group %u", hit ? entry->action : t->default_action);
    if (kind != P4DP_ACTION && env->chosen == DP_NONE)
        fputs(json ? ", \"member\": null" : ", no member", file);
    else if (kind != P4DP_ACTION)
        fprintf(file, json ? ", \"member\": %u" : ", member %u", env->chosen);
    static const p4prog_action nothing = {.name = "(none)"};
    const p4prog_action *action = match->action == P4PROG_NO_ACTION ? &nothing : &env->program->actions[match->action];
    if (!json) fputs(", action ", file);
    print_call(sw, "action", action->name, action->params, action->n_params, match->data);
    end(sw);
}

void p4prog_trace_action(p4prog_env *env, const char *name, const p4prog_param *params, uint32_t count, const uint8_t *data) {
    if (env->sw->trace == NULL) return;
    begin(env, "action");
    if (!env->sw->trace_json) fputc(' ', env->sw->trace);
    print_call(env->sw, "action", name, params, count, data);
    end(env->sw);
}

void dp_trace_digest(p4prog_env *env, const p4prog_digest *digest, const uint8_t *message) {
    if (env->sw->trace == NULL) return;
    begin(env, "digest");
    if (!env->sw->trace_json) fputc(' ', env->sw->trace);
    print_call(env->sw, "digest", digest->name, digest->fields, digest->n_fields, message);
    end(env->sw);
}

void p4prog_trace(p4prog_env *env, const char *event, const char *detail) {
    if (strcmp(event, "mark_to_drop") == 0) env->marked = detail;
    dp_trace_event(env, event, "%s{detail}", detail);
}

/* ---------------------------------------------------------------------------------------------------- verdicts */

static void remember(uint32_t *ports, uint32_t *count, uint32_t port) {
    if (*count < DP_VERDICT_PORTS) ports[*count] = port;
    ++*count;
}

void dp_trace_output(p4prog_env *env, uint32_t port, uint32_t bytes) {
    remember(env->sw->verdict.outputs, &env->sw->verdict.n_outputs, port);
    dp_trace_event(env, "output", "to port %u{port}, %u{bytes} bytes%s", port, bytes, port == env->sw->cpu_port ? ", the controller" : "");
}

void dp_trace_queued(p4prog_env *env, uint32_t port, uint32_t priority, uint32_t before) {
    remember(env->sw->verdict.queued, &env->sw->verdict.n_queued, port);
    dp_trace_event(env, "queued", "for port %u{port}, priority %u{priority}, behind %u{before} packets", port, priority, before);
}

void dp_trace_drop(p4prog_env *env, const char *format, ...) {
    dp_verdict *verdict = &env->sw->verdict;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(verdict->reason, sizeof verdict->reason, format, arguments);
    va_end(arguments);
    verdict->n_drops++;
    dp_trace_event(env, "drop", ": %s{reason}", verdict->reason);
}

static void print_ports(const p4dp_switch *sw, const char *name, const char *text, const uint32_t *ports, uint32_t count) {
    uint32_t shown = count < DP_VERDICT_PORTS ? count : DP_VERDICT_PORTS;
    if (sw->trace_json)
        fprintf(sw->trace, ", \"%s\": [", name);
    else
        fprintf(sw->trace, "%s port%s ", text, count == 1 ? "" : "s");
    for (uint32_t i = 0; i < shown; i++) fprintf(sw->trace, "%s%u", i == 0 ? "" : ", ", ports[i]);
    if (sw->trace_json)
        fprintf(sw->trace, "], \"n_%s\": %u", name, count);
    else if (shown < count)
        fprintf(sw->trace, " and %u more", count - shown);
}

void dp_trace_verdict(p4prog_env *env) {
    const p4dp_switch *sw = env->sw;
    dp_verdict *verdict = &env->sw->verdict;
    if (sw->trace == NULL) return;
    const char *separator = ": ";
    begin(env, "verdict");
    if (sw->trace_json || verdict->n_outputs > 0) {
        if (!sw->trace_json) fputs(separator, sw->trace);
        print_ports(sw, "outputs", "output to", verdict->outputs, verdict->n_outputs);
        separator = "; ";
    }
    if (verdict->n_queued > 0) {
        if (!sw->trace_json) fputs(separator, sw->trace);
        print_ports(sw, "queued", "queued for", verdict->queued, verdict->n_queued);
        separator = "; ";
    }
    if (sw->trace_json) {
        fprintf(sw->trace, ", \"drops\": %u", verdict->n_drops);
        if (verdict->n_drops > 0) {
            fputs(", \"reason\": ", sw->trace);
            json_string(sw->trace, verdict->reason);
        }
    } else if (verdict->n_drops > 0) {
        fprintf(sw->trace, "%sdropped", separator);
        if (verdict->n_drops > 1) fprintf(sw->trace, " (%u times)", verdict->n_drops);
        fprintf(sw->trace, ": %s", verdict->reason);
    } else if (verdict->n_outputs == 0 && verdict->n_queued == 0) {
        fputs(": nothing left the switch", sw->trace);
    }
    end(sw);
    *verdict = (dp_verdict){0};
}

/* -------------------------------------------------------------------------------------------------------- logs */

void p4prog_log(p4prog_env *env, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (env->sw->trace != NULL)
        dp_trace_event(env, "log", ": %s{text}", text);
    else if (env->sw->logs < LOG_LIMIT)
        fprintf(stderr, "p4switch: packet %llu: log: %s\n", (unsigned long long)env->sw->packet, text);
    else if (env->sw->logs == LOG_LIMIT)
        fputs("p4switch: further log messages are left out; use a trace to see all\n", stderr);
    if (env->sw->logs <= LOG_LIMIT) env->sw->logs++;
}

/* ------------------------------------------------------------------------------------------ opening and closing */

void dp_trace_flush(p4dp_switch *sw) {
    if (sw->trace != NULL) fflush(sw->trace);
    if (sw->pcap_directory == NULL) return;
    for (uint32_t i = 0; i < DP_PORTS; i++)
        if (sw->ports[i] != NULL && sw->ports[i]->pcap != NULL) fflush(sw->ports[i]->pcap);
}

int p4dp_trace(p4dp_switch *sw, const char *file, int json) {
    FILE *opened = NULL;
    if (file != NULL && (opened = fopen(file, "w")) == NULL) return P4DP_EIO;
    dp_gate_enter(&sw->gate);
    FILE *old = sw->trace;
    sw->trace = opened;
    sw->trace_json = json != 0;
    sw->verdict = (dp_verdict){0};
    if (sw->env != NULL) sw->env->tracing = opened != NULL;
    dp_gate_leave(&sw->gate);
    if (old != NULL) fclose(old);
    return 0;
}

void dp_trace_close(p4dp_switch *sw) {
    dp_pcap_close(sw);
    if (sw->trace != NULL) fclose(sw->trace);
    sw->trace = NULL;
}

/* libFuzzer's entry points: run an input, check what must hold at its end, count, and say the figures when the process ends. */
#include "harness.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

figures count;
bool verbose;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

void broken(const char *format, ...) {
    va_list arguments;
    fputs("fuzz: broken invariant: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

uint8_t take8(input *in) {
    if (in->left == 0) return 0;
    in->left--;
    return *in->at++;
}

uint32_t take16(input *in) {
    uint32_t low = take8(in);
    return low | (uint32_t)take8(in) << 8;
}

uint32_t take32(input *in) {
    uint32_t low = take16(in);
    return low | take16(in) << 16;
}

void take(input *in, uint8_t *to, size_t size) {
    for (size_t i = 0; i < size; i++) to[i] = take8(in);
}

static void say_figures(void) {
    fprintf(stderr,
            "fuzz: inputs=%" PRIu64 " steps=%" PRIu64 " packets=%" PRIu64 " outputs=%" PRIu64 " events=%" PRIu64 " updates=%" PRIu64
            " refused=%" PRIu64 " lookups=%" PRIu64 " hits=%" PRIu64 " loops_cut=%" PRIu64 " failed_allocations=%" PRIu64 "\n",
            count.inputs, count.steps, count.packets, count.outputs, count.events, count.updates, count.refused, count.lookups, count.hits,
            count.cut_loops, count.failed_allocations);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    const char *wish = getenv("FUZZ_VERBOSE");
    verbose = wish != NULL && strcmp(wish, "1") == 0;
    atexit(say_figures);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char message[256];
    world_reset();
    oracle_reset();
    count.inputs++;
    p4dp_switch *sw = p4dp_create(CPU_PORT, DROP_PORT, 1);
    if (sw == NULL) broken("no switch");
    if (p4dp_load(sw, "/dev/null", message, sizeof message) != 0) broken("the program does not load: %s", message);
    if (verbose) p4dp_trace(sw, "/dev/stderr", 0);
    while (size >= RECORD_HEADER) {
        size_t length = data[1] | (size_t)data[2] << 8;
        if (length > size - RECORD_HEADER) length = size - RECORD_HEADER;
        count.steps++;
        run_step(sw, data[0] % STEP_KINDS, (input){data + RECORD_HEADER, length});
        data += RECORD_HEADER + length;
        size -= RECORD_HEADER + length;
    }
    world_fail_allocation(UINT32_MAX);
    p4dp_stats_view stats;
    drain(sw);
    p4dp_stats(sw, &stats);
    count.cut_loops += stats.loops_cut;
    p4dp_destroy(sw);
    if (world_live_allocations() != 0) broken("%" PRIu64 " allocations are left after the switch was destroyed", world_live_allocations());
    return 0;
}

/* What the runtime sees of the system (runtime_names.h sends its calls here): a clock that moves only when it is read or told to,
 * an allocator that fails on demand and knows what is left at the end, files that go nowhere, a dynamic loader that gives the
 * program linked into this process, a log that is silent.
 */
#include "harness.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define READING_NS 100u

static uint64_t now_ns, live;
static uint32_t until_failure;
uint64_t clock_step_ns;

void world_reset(void) {
    now_ns = 1000000000u;
    clock_step_ns = READING_NS;
    until_failure = UINT32_MAX;
    live = 0;
}

uint64_t world_now(void) { return now_ns; }
void world_advance(uint64_t ns) { now_ns += ns; }
void world_fail_allocation(uint32_t after) { until_failure = after; }
uint64_t world_live_allocations(void) { return live; }

int world_clock_gettime(clockid_t clock, struct timespec *to);
void *world_malloc(size_t size);
void *world_calloc(size_t items, size_t size);
void *world_realloc(void *old, size_t size);
void *world_aligned_alloc(size_t alignment, size_t size);
void world_free(void *memory);
char *world_strdup(const char *text);
FILE *world_fopen(const char *name, const char *mode);
void *world_dlopen(const char *name, int flags);
void *world_dlsym(void *library, const char *symbol);
int world_dlclose(void *library);
void world_log(p4prog_env *env, const char *format, ...);

int world_clock_gettime(clockid_t clock, struct timespec *to) {
    (void)clock;
    now_ns += clock_step_ns;
    to->tv_sec = (time_t)(now_ns / 1000000000u);
    to->tv_nsec = (long)(now_ns % 1000000000u);
    return 0;
}

static bool fails(void) {
    if (until_failure == UINT32_MAX || until_failure-- != 0) return false;
    count.failed_allocations++;
    SAY("    this allocation fails\n");
    return true;
}

static void *counted(void *memory) {
    if (memory != NULL) live++;
    return memory;
}

void *world_malloc(size_t size) { return fails() ? NULL : counted(malloc(size)); }
void *world_calloc(size_t items, size_t size) { return fails() ? NULL : counted(calloc(items, size)); }
void *world_aligned_alloc(size_t alignment, size_t size) { return fails() ? NULL : counted(aligned_alloc(alignment, size)); }

void *world_realloc(void *old, size_t size) {
    if (fails()) return NULL;
    void *made = realloc(old, size);
    return old == NULL ? counted(made) : made;
}

void world_free(void *memory) {
    if (memory == NULL) return;
    live--;
    free(memory);
}

char *world_strdup(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = world_malloc(size);
    return copy == NULL ? NULL : memcpy(copy, text, size);
}

FILE *world_fopen(const char *name, const char *mode) {
    return fails() ? NULL : fopen(strcmp(name, "/dev/stderr") == 0 ? name : "/dev/null", mode);
}

void *world_dlopen(const char *name, int flags) {
    (void)name;
    (void)flags;
    return &live; /* any address will do as a handle */
}

void *world_dlsym(void *library, const char *symbol) {
    (void)library;
    return strcmp(symbol, "p4prog_main") == 0 ? (void *)(uintptr_t)&p4prog_main : NULL;
}

int world_dlclose(void *library) {
    (void)library;
    return 0;
}

void world_log(p4prog_env *env, const char *format, ...) {
    char text[4096];
    va_list arguments;
    (void)env;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    SAY("    log: %s\n", text);
}

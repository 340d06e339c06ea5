/* The fuzz target of the packet path: a switch in one process, without sockets, threads or a real clock.
 *
 * An input is a series of steps: packets, changes of tables, members, groups, sessions, meters, registers and value sets, time that
 * passes, allocations that fail. Each step is a record (kind, 16-bit length, payload), so that mutations of one step leave the
 * others alone; missing payload bytes are zero, so every input means something. The target learns the program from its
 * descriptor, p4prog_main, and needs no schema.
 *
 *   main.c     libFuzzer's entry points, figures
 *   steps.c    what a step does
 *   mutate.c   mutation and crossover of whole steps
 *   world.c    what stands between the runtime and the system (runtime_names.h): clock, allocator, dynamic loader
 *   oracle.c   every table lookup compared with a search through all entries (program_names.h)
 */
#ifndef FUZZ_HARNESS_H
#define FUZZ_HARNESS_H

#include "p4prog.h"

#include "p4dp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

extern const p4prog_program p4prog_main;

#ifndef CPU_PORT
#define CPU_PORT 64u /* as in the .stf tests */
#endif
#define DROP_PORT 511u
#define RECORD_HEADER 3u
#define LARGEST_KEY 1024u

/* main.c */
typedef struct {
    uint64_t inputs, steps, packets, outputs, events, updates, refused, lookups, hits, cut_loops, failed_allocations;
} figures;
extern figures count;
extern bool verbose; /* say what every step does; FUZZ_VERBOSE=1 */
#define SAY(...)                                    \
    do {                                            \
        if (verbose) fprintf(stderr, __VA_ARGS__);  \
    } while (0)
/* An invariant does not hold: say so and abort, which libFuzzer reports as a crash. */
void broken(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* A cursor over bytes of the input; behind the end there are zeros. */
typedef struct {
    const uint8_t *at;
    size_t left;
} input;
uint8_t take8(input *in);
uint32_t take16(input *in);
uint32_t take32(input *in);
void take(input *in, uint8_t *to, size_t size);

/* steps.c */
enum {
    STEP_PACKET,
    STEP_PACKET_OUT,
    STEP_ENTRIES,
    STEP_MEMBER,
    STEP_GROUP,
    STEP_MULTICAST,
    STEP_CLONE_SESSION,
    STEP_EXTERN,
    STEP_VALUE_SET,
    STEP_TIME,
    STEP_SCARCE_MEMORY,
    STEP_READ_BACK,
    STEP_TRACE,
    STEP_RELOAD,
    STEP_TRANSACTION,
    STEP_QUEUES,
    STEP_ADOPT,
    STEP_KINDS
};
void run_step(p4dp_switch *sw, uint8_t kind, input in);
void drain(p4dp_switch *sw);

/* world.c */
void world_reset(void);
uint64_t world_now(void);
void world_advance(uint64_t ns);
void world_fail_allocation(uint32_t after); /* the one after so many more; UINT32_MAX: none */
uint64_t world_live_allocations(void); /* of the runtime */
extern uint64_t clock_step_ns; /* how much the clock moves each time it is read */

/* oracle.c */
void oracle_forget(void); /* tables may have changed */
void oracle_refresh(p4dp_switch *sw);
void oracle_reset(void);
/* A key that was looked up in the table (`back` lookups ago) or tested against the value set; NULL: none yet. */
const uint8_t *oracle_seen(uint32_t table, uint32_t back);
const uint8_t *oracle_seen_value(uint32_t value_set);
uint32_t bytes_of(uint32_t bits);

#endif

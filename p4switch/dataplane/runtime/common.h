/* What every file of the runtime needs: the two public boundaries, small helpers, sizes.
 *
 * Everything is compiled with hidden visibility; only what the two boundary headers declare is exported, p4dp_* to the
 * control side (cffi) and p4prog_* to the programs.
 */
#ifndef P4DP_COMMON_H
#define P4DP_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#pragma GCC visibility push(default)
#include "../include/p4prog.h"

#include "../include/p4dp.h"
#pragma GCC visibility pop

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define NOINLINE __attribute__((noinline))

/* The largest frame that enters: jumbo frames with VLAN tags (MTU 9000) and the customary 9216 of switches. */
#define DP_FRAME_MAX 9216u
/* Ports are bit<9> in v1model; numbers above do not exist for a program. */
#define DP_PORTS 512u
/* Passes through ingress or egress that one packet may cause by resubmit, recirculate and egress clones: in a row, in all. */
#define DP_MAX_DEPTH 256u
#define DP_MAX_PASSES 1024u

#define DP_PRIORITIES 8u /* v1model's priority has three bits */
#define DP_QUEUE_DEPTH 64u /* of a queue that has a rate and nothing else: bmv2's */
#define DP_MAX_QUEUE_DEPTH 65536u

static inline uint64_t dp_align(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }
static inline uint32_t dp_bytes(uint32_t bits) { return (bits + 7) / 8; }

static inline uint64_t dp_load64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline uint32_t dp_load32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }

uint64_t dp_monotonic_ns(void);
uint64_t dp_realtime_ns(void);

#endif

/* What every generated program includes: the runtime's boundary, numbers, and the limits that keep a packet from stopping the switch. */
#ifndef P4GEN_H
#define P4GEN_H

#include "p4prog.h"
#include "p4bits.h"
#include "p4wide.h"

#define P4_DROP_PORT 511u /* v1model's, as mark_to_drop writes it */
#define P4_MAX_TURNS (1u << 20) /* turns of all loops of one stage of a packet */
#define P4_MAX_IDLE_STATES 1024u /* states of a cycle that a parser may pass without consuming a byte */

/* The part of the packet that the parser left. */
typedef struct {
    const uint8_t *data;
    uint32_t length;
} p4_rest;

#endif

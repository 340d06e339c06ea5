/* Numbers of the rmem protocol (docs/protocol.md) and of this program. */
#ifndef _RACK_MMU_CONSTANTS_P4_
#define _RACK_MMU_CONSTANTS_P4_

typedef bit<9> port_t;
typedef bit<48> mac_t;
typedef bit<16> element_id_t;
typedef bit<16> pid_t;
typedef bit<64> address_t;

const bit<16> ETHERTYPE_RMEM = 0x88B5;
const bit<8> RMEM_VERSION = 1;

const port_t CPU_PORT = 510;
const mac_t ELEMENT_MAC_BASE = 0x020000000000; // the element id is in the last 16 bits; the controller and the switch are 0
const element_id_t CONTROLLER = 0;

const bit<8> REPLY_BIT = 0x80;
const bit<8> FLAG_BY_SWITCH = 0x01;
const bit<8> FLAG_BY_ELEMENT = 0x02;
const bit<8> FLAG_RETRY = 0x08;
const bit<8> FLAG_CACHED = 0x10;

const bit<16> PAGE_SIZE = 4096;
const bit<16> WORD_SIZE = 8;
const bit<32> FRAME_OVERHEAD = 54; // Ethernet and rmem headers
const bit<32> MAX_FRAME = 4150; // FRAME_OVERHEAD + PAGE_SIZE

const bit<32> ELEMENTS = 1024;
const bit<32> PROCESSES = 65536;
const bit<32> VERDICTS = 64;

enum bit<8> Op {
    READ = 0x01,
    WRITE = 0x02,
    CAS = 0x03,
    FETCH_ADD = 0x04,
    CHECKSUM = 0x05,
    HELLO = 0x20,
    HEARTBEAT = 0x2F,
    NOTIFY_REPLY = 0xC2
}

// Requests 0x20 to 0x3F are for the controller; which of them exist, only the controller knows.
const bit<8> CONTROL_CLASS = 0x20;
const bit<8> CLASS_MASK = 0xE0;

enum bit<8> Status {
    OK = 0,
    UNMAPPED = 1,
    PERMISSION = 2,
    FENCED = 3,
    ELEMENT_FAILED = 4,
    STALE_GENERATION = 6,
    BAD_REQUEST = 7,
    MEMORY_LOST = 15
}

enum bit<8> Permission {
    NONE = 0,
    READ = 1,
    WRITE = 2,
    READ_WRITE = 3
}

enum bit<8> Kind {
    NONE = 0,
    COMPUTE = 1,
    MEMORY = 2
}

// What becomes of a frame: the rewrite block acts on it. A frame starts undecided, and one that stayed so would be dropped.
enum bit<8> Disposition {
    UNDECIDED = 0,
    DROP = 1,
    REFUSE = 2,
    FORWARD_REQUEST = 3,
    FORWARD_REPLY = 4,
    TO_CONTROLLER = 5,
    FROM_CONTROLLER = 6
}

// Index into the `verdicts` counter. Refusals are REFUSED + status.
enum bit<8> Verdict {
    FORWARDED_REQUEST = 0,
    FORWARDED_REPLY = 1,
    TO_CONTROLLER = 2,
    FROM_CONTROLLER = 3,
    REFUSED = 16,
    NOT_RMEM = 32,
    TRUNCATED = 33,
    BAD_VERSION = 34,
    UNKNOWN_PORT = 35,
    REPLY_FROM_COMPUTE = 36,
    REQUEST_FROM_MEMORY = 37,
    NO_ROUTE = 38,
    BAD_PACKET_OUT = 39,
    REPLY_FROM_FENCED = 40
}

#endif

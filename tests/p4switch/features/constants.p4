// Members of constant structs and tuples are constants themselves: widths, sizes, labels, entries and annotations may use them.
#include <core.p4>
#include <v1model.p4>

struct limits_t { bit<8> low; bit<8> high; }
struct config_t { limits_t limits; bit<32> cells; bool strict; }
const config_t CONFIG = { limits = { low = 3, high = 9 }, cells = 4, strict = true };
const tuple<bit<8>, bit<16>> PAIR = { 0x55, 0x1234 };
const bit<8> LOW = CONFIG.limits.low;
const int WIDTH = 8w4;
const bit<WIDTH + 2 * 2> WIDE = 0xff;

header h_t { bit<8> a; bit<WIDTH - 1 + 5> b; bit<16> c; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.a) {
            CONFIG.limits.low .. CONFIG.limits.high: accept;
            default: other;
        }
    }
    state other { hdr.h.b = WIDE; transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    register<bit<8>>(CONFIG.cells) cells;
    action set(bit<16> c) { hdr.h.c = c; }
    table t {
        key = { hdr.h.a : exact; }
        actions = { set; NoAction; }
        const entries = { CONFIG.limits.low : set(PAIR[1]); PAIR[0] : set(CONFIG.strict ? 16w1 : 0); }
    }
    apply {
        sm.egress_spec = 1;
        t.apply();
        cells.write(CONFIG.cells - 1, LOW);
    }
}

#include "skeleton.p4"

// Externs in functions and actions: each acts where the function is called.
#define V1MODEL_VERSION 20200408
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> op; bit<8> a; bit<16> b; }
struct headers_t { h_t h; }
struct metadata_t { }

enum colour_t { GREEN, YELLOW, RED }

register<bit<16>, bit<32>>(4) cells;
counter<bit<8>>(4, CounterType.packets) hits;
meter<bit<8>>(4, MeterType.packets) rates;

bit<16> next(in bit<8> i) {
    bit<16> value;
    cells.read(value, (bit<32>) i);
    value = value + 1;
    cells.write((bit<32>) i, value);
    hits.count(i);
    return value;
}
void drop(inout standard_metadata_t sm) { mark_to_drop(sm); }
bit<8> colour(in bit<8> i) {
    colour_t c;
    rates.execute_meter(i, c);
    return c == colour_t.GREEN ? 8w0x61 : 8w0x72;
}

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        if (hdr.h.op == 1) { hdr.h.b = next(hdr.h.a); }
        if (hdr.h.op == 2) { drop(sm); }
        if (hdr.h.op == 3) { hdr.h.a = colour(hdr.h.a); }
    }
}

control MyEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply { if (hdr.h.op == 1) { hdr.h.b = hdr.h.b + (next(3) << 8); } }
}
#define EGRESS MyEgress

#include "skeleton.p4"

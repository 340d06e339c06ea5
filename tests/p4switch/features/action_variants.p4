// Actions of one control-plane name: copies are one action; with bodies of their own, each table executes the one it lists.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> op; bit<8> a; bit<8> b; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    @name(".set") action set(bit<8> v) { hdr.h.a = v; }
    @name(".set") action set_again(@name("v") bit<8> w) { hdr.h.a = w; }
    @name(".set") action set_other(bit<8> v) { hdr.h.b = v; exit; }
    table first { key = { hdr.h.op: exact; } actions = { set; NoAction; } default_action = NoAction; }
    table second { key = { hdr.h.op: exact; } actions = { set_again; NoAction; } default_action = NoAction; }
    table third {
        key = { hdr.h.op: exact; }
        actions = { set_other; NoAction; }
        default_action = NoAction;
        const entries = { 9: set_other(0x99); }
    }
    apply {
        sm.egress_spec = 1;
        first.apply();
        second.apply();
        switch (third.apply().action_run) { set_other: { hdr.h.a = 0; } }
        if (hdr.h.op == 5) { set_other(0x55); }
        hdr.h.op = 0xff;
    }
}

#include "skeleton.p4"

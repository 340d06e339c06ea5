// What p4c takes for bmv2 though it comes close to what it refuses.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; }
header_union u_t { h_t one; h_t two; }
struct headers_t { h_t h; h_t[2] stack; u_t[2] unions; }
struct metadata_t { bit<8> x; bool flag; error problem; }
enum Mode { Slow, Fast }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        if (hdr.h.a == 1) { meta.x = 2; }
        log_msg("extracted");
        transition select(hdr.h.a) { 1: more; 2: union; default: accept; }
    }
    state more { packet.extract(hdr.stack.next); transition select(hdr.stack.last.a) { 1: more; default: accept; } }
    state union { packet.extract(hdr.unions.next.one); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    direct_meter<bit<8>>(MeterType.packets) rate;
    register<bit<20>>(8) counts;
    action count() {
        for (bit<8> i = 0; i < 3; i = i + 1) {
            if (i == 2) { break; } else { hdr.h.a = hdr.h.a + i; }
        }
        rate.read(meta.x);
    }
    action choose(bit<8> value) {
        rate.read(meta.x);
        if (value == 1) { return; }
        hdr.h.b = (bit<16>) value << (bit<8>) hdr.h.b;
    }
    table lpm_beside_others {
        key = { hdr.h.a : lpm; hdr.h.b : ternary; meta.flag : exact; meta.problem : exact; hdr.h.isValid() : exact; }
        actions = { count; choose; }
        default_action = choose(0);
        meters = rate;
    }
    table shared_end {
        key = { hdr.h.a : optional; meta.x : range; }
        actions = { NoAction; }
        default_action = NoAction();
        const entries = { (1, 2 .. 3) : NoAction(); (_, 4) : NoAction(); }
    }
    table flags {
        key = { meta.flag : exact; }
        actions = { NoAction; }
        default_action = NoAction();
        const entries = { true : NoAction(); }
    }
    apply {
        lpm_beside_others.apply();
        flags.apply();
        switch (hdr.h.a) {
            1: { meta.x = 1; }
            default: { meta.x = 2; }
        }
        counts.write(0, 1);
        hash(meta.x, HashAlgorithm.crc32, 8w0, { hdr.h.a, hdr.h.b }, 8w16);
        if (meta.flag) {
            meta.x = 3;
            shared_end.apply();
        } else {
            shared_end.apply();
        }
        sm.egress_spec = 1;
    }
}

control Compute(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum(hdr.h.isValid() && hdr.h.a == 2, { hdr.h.a, 8w0 }, hdr.h.b, HashAlgorithm.csum16);
    }
}
#define COMPUTE Compute

#include "skeleton.p4"

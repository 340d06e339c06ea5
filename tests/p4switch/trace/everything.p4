// One of each thing that a trace reports; the first byte of a packet chooses which.
#include <core.p4>
#include <v1model.p4>

header h_t {
    bit<8> kind;
    bit<16> key;
    bit<8> tag;
}
struct headers_t { h_t h; }
struct metadata_t { @field_list(1) bit<8> kept; }
struct notice_t { bit<16> key; bit<8> tag; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.kind) {
            0xff: refused;
            default: accept;
        }
    }
    state refused {
        verify(false, error.NoMatch);
        transition accept;
    }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    direct_counter(CounterType.packets) hits;
    action drop() { mark_to_drop(sm); }
    action set_port(bit<9> port, bit<8> tag) {
        sm.egress_spec = port;
        hdr.h.tag = tag;
    }
    action add(in bit<8> base, bit<8> amount) { hdr.h.tag = base + amount; }

    table by_key {
        key = { hdr.h.key: exact @name("key"); sm.ingress_port: exact @name("in"); }
        actions = { set_port; drop; }
        const default_action = drop();
        counters = hits;
        size = 16;
    }
    table by_mask {
        key = { hdr.h.key: ternary @name("key"); }
        actions = { add(hdr.h.tag); NoAction; }
        const default_action = NoAction();
        size = 16;
    }
    action_selector(HashAlgorithm.crc16, 16, 8) profile;
    table by_group {
        key = { hdr.h.kind: exact @name("kind"); hdr.h.key: selector; }
        actions = { set_port; NoAction; }
        default_action = NoAction();
        implementation = profile;
        size = 16;
    }
    apply {
        by_key.apply();
        by_mask.apply();
        if (hdr.h.kind == 1) {
            by_group.apply();
        } else if (hdr.h.kind == 2) {
            clone_preserving_field_list(CloneType.I2E, 5, 1);
            digest<notice_t>(1, { hdr.h.key, hdr.h.tag });
        } else if (hdr.h.kind == 3) {
            sm.mcast_grp = 7;
        } else if (hdr.h.kind == 4 && meta.kept == 0) {
            meta.kept = 1;
            resubmit_preserving_field_list(1);
        } else if (hdr.h.kind == 5) {
            truncate(6);
            log_msg("key {} \"quoted\"", { hdr.h.key });
        } else if (hdr.h.kind == 8) {
            set_port(9w3, hdr.h.tag + 1);
        }
    }
}

control MyEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        if (hdr.h.kind == 6 && sm.instance_type == 0 && meta.kept == 0) {
            meta.kept = 1;
            recirculate_preserving_field_list(1);
        }
        if (hdr.h.kind == 7) {
            mark_to_drop(sm);
        }
    }
}

#define EGRESS MyEgress
#include "../features/skeleton.p4"

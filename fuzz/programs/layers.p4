// For fuzzing: everything that moves bytes whose place or number depends on the packet.
// Stacks with run-time indices, varbit, unions, lookahead, advance, verify, a value set, a sub-parser, checksums with and without
// payload, numbers wider than a machine word, loops.
#include <core.p4>
#include <v1model.p4>

error { BadVersion, TooManyOptions }

header base_t { bit<4> version; bit<4> options; bit<8> kind; bit<16> length; bit<16> checksum; bit<8> index; bit<8> amount; }
header label_t { bit<20> value; bit<3> class; bit<1> bottom; bit<8> ttl; }
header option_t { bit<8> kind; bit<8> bytes; varbit<96> value; }
header small_t { bit<8> tag; bit<8> v; }
header large_t { bit<8> tag; bit<56> v; }
header wide_t { bit<300> a; bit<4> b; int<136> c; }
header_union body_t { small_t small; large_t large; }
struct headers_t { base_t base; label_t[4] labels; option_t[2] options; body_t[2] bodies; wide_t wide; }
struct metadata_t { bit<8> left; bit<32> sum; int<16> level; bit<300> mixed; bit<1> bad; }

parser Labels(packet_in packet, inout headers_t hdr, inout metadata_t meta) {
    state start {
        packet.extract(hdr.labels.next);
        meta.sum = meta.sum + (bit<32>) hdr.labels.last.ttl;
        transition select(hdr.labels.last.bottom, hdr.labels.lastIndex) { (1, _): accept; (_, 3): full; default: start; }
    }
    state full { transition select(packet.lookahead<bit<8>>()) { 0xff: start; default: accept; } }
}

parser LayersParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    value_set<bit<8>>(4) wide_kinds;
    Labels() labels;

    state start {
        packet.extract(hdr.base);
        meta.left = (bit<8>) hdr.base.options;
        verify(hdr.base.version != 15, error.BadVersion);
        transition select(hdr.base.kind) {
            wide_kinds: wide;
            0x10 &&& 0xf0: labelled;
            0x20: bodies;
            0x21: skip;
            0x22..0x2f: wide;
            default: options;
        }
    }
    state labelled { labels.apply(packet, hdr, meta); transition options; }
    state skip { packet.advance((bit<32>) hdr.base.amount << 3); transition bodies; }
    state options {
        transition select(meta.left) { 0: bodies; default: option; }
    }
    state option {
        verify(meta.left < 12, error.TooManyOptions);
        packet.extract(hdr.options.next, (bit<32>) (packet.lookahead<bit<16>>()[7:0]) << 3);
        meta.left = meta.left - 1;
        transition options;
    }
    state bodies {
        transition select(packet.lookahead<bit<8>>()) { 1: small; 2: large; 3: both; 4: wide; default: accept; }
    }
    state small { packet.extract(hdr.bodies.next.small); transition bodies; }
    state large { packet.extract(hdr.bodies.next.large); transition bodies; }
    state both { packet.extract(hdr.bodies[0].small); packet.extract(hdr.bodies[0].large); transition accept; }
    state wide { packet.extract(hdr.wide); transition accept; }
}

control LayersVerify(inout headers_t hdr, inout metadata_t meta) {
    apply {
        verify_checksum(hdr.base.isValid(), { hdr.base.version, hdr.base.options, hdr.base.kind, hdr.base.length },
                        hdr.base.checksum, HashAlgorithm.csum16);
        verify_checksum_with_payload(hdr.wide.isValid(), { hdr.wide.a, hdr.wide.b }, hdr.base.checksum, HashAlgorithm.csum16);
    }
}

control LayersIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action rewrite(bit<8> index) {
        hdr.labels[index].value = hdr.labels[index + 1].value[15:0] ++ 4w9;
        hdr.labels[hdr.base.index].ttl = hdr.labels[hdr.labels[index].ttl].ttl - 1;
    }
    action shift(bit<8> amount) {
        meta.mixed = (hdr.wide.a << amount) ^ (hdr.wide.a >> hdr.base.amount);
        hdr.wide.c = hdr.wide.c |+| (int<136>) (hdr.wide.c >> amount);
        meta.level = meta.level |-| (int<16>) (bit<16>) hdr.base.index;
    }
    table by_kind {
        key = { hdr.base.kind: exact @name("kind"); hdr.labels[0].value: ternary @name("label"); }
        actions = { rewrite; shift; NoAction; }
        size = 64;
        default_action = NoAction;
    }
    apply {
        sm.egress_spec = (bit<9>) hdr.base.index;
        by_kind.apply();
        if (sm.parser_error == error.StackOutOfBounds) { hdr.labels.pop_front(2); }
        if (hdr.base.amount[0:0] == 1) { hdr.labels.push_front(1); hdr.labels[0].setValid(); hdr.labels[0].ttl = hdr.base.index; }
        if (hdr.base.amount[1:1] == 1) { hdr.labels.pop_front(1); hdr.options[0].value = hdr.options[1].value; }
        if (hdr.base.amount[2:2] == 1) { hdr.bodies[0].large.setValid(); hdr.bodies[0].large.v = meta.mixed[299:244]; }
        if (hdr.base.amount[3:3] == 1) { hdr.bodies[1] = hdr.bodies[0]; hdr.options[1] = hdr.options[0]; }
        if (hdr.base.amount[4:4] == 1) { hdr.options[0].setInvalid(); hdr.wide.setValid(); }
        for (bit<8> i = 0; i < hdr.base.index; i = i + 1) {
            if (i == 40) { break; }
            meta.sum = meta.sum + (bit<32>) hdr.labels[i & 7].ttl;
        }
        if (hdr.base.length != 0) { meta.sum = meta.sum / 3 + meta.sum % 7; }
        hdr.base.length = hdr.base.length + (bit<16>) meta.sum;
        meta.bad = sm.checksum_error;
    }
}

control LayersEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        if (meta.bad == 1) { hdr.base.version = 0; }
        if (hdr.wide.isValid()) { hdr.wide.a[255:128] = meta.mixed[127:0]; truncate((bit<32>) hdr.base.index); }
    }
}

control LayersCompute(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum_with_payload(hdr.base.isValid(), { hdr.base.version, hdr.base.options, hdr.base.kind, hdr.base.length },
                                     hdr.base.checksum, HashAlgorithm.csum16);
        update_checksum(hdr.labels[0].isValid(), { hdr.labels[0].value, hdr.labels[0].class }, hdr.labels[0].ttl, HashAlgorithm.xor16);
    }
}

control LayersDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.base);
        packet.emit(hdr.labels);
        packet.emit(hdr.options);
        packet.emit(hdr.bodies);
        packet.emit(hdr.wide);
    }
}

V1Switch(LayersParser(), LayersVerify(), LayersIngress(), LayersEgress(), LayersCompute(), LayersDeparser()) main;

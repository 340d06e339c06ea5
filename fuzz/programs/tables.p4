// For fuzzing: every match kind alone and mixed, profiles and selectors, direct and indexed counters and meters, registers, hashes,
// idle timeouts, const entries.
#include <core.p4>
#include <v1model.p4>

header key_t { bit<8> a; bit<13> b; bit<3> c; bit<32> d; bit<72> e; bit<1> f; bit<7> g; }
struct headers_t { key_t k; }
struct metadata_t { bit<2> colour; bit<2> other; bit<32> hashed; bit<48> word; }

parser TablesParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.k); transition accept; }
}

control TablesVerify(inout headers_t hdr, inout metadata_t meta) { apply { } }

control TablesIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action_profile(8) profile;
    action_selector(HashAlgorithm.crc32, 8, 14) selector;
    direct_counter(CounterType.packets_and_bytes) hits;
    direct_meter<bit<2>>(MeterType.bytes) rate;
    counter(16, CounterType.bytes) ports;
    meter(8, MeterType.packets) limits;
    register<bit<48>>(10) words;
    register<int<5>>(3) tiny;

    action forward(bit<9> port) { sm.egress_spec = port; }
    action set_word(bit<48> word, bit<3> c) { meta.word = word; hdr.k.c = c; }
    action nothing() { }
    action metered(bit<9> port) { rate.read(meta.colour); sm.egress_spec = port; }
    action counted(bit<13> b) { hits.count(); hdr.k.b = b; }

    table t_exact { key = { hdr.k.a: exact; hdr.k.b: exact; } actions = { forward; set_word; nothing; } size = 16; default_action = nothing; }
    table t_one { key = { hdr.k.f: exact; } actions = { counted; nothing; } size = 4; counters = hits; default_action = nothing; }
    table t_lpm { key = { hdr.k.d: lpm; } actions = { metered; nothing; } size = 32; meters = rate; default_action = nothing; support_timeout = true; }
    table t_lpm_exact { key = { hdr.k.c: exact; hdr.k.e: lpm; } actions = { forward; set_word; nothing; } size = 32; default_action = nothing; }
    table t_ternary { key = { hdr.k.a: ternary; hdr.k.b: ternary; } actions = { forward; set_word; nothing; } size = 32; default_action = nothing; support_timeout = true; }
    table t_range { key = { hdr.k.b: range; hdr.k.g: range; } actions = { forward; nothing; } size = 32; default_action = nothing; }
    table t_mixed {
        key = { hdr.k.a: optional; hdr.k.b: lpm; hdr.k.c: ternary; hdr.k.d: range; hdr.k.e: exact; }
        actions = { forward; set_word; nothing; }
        size = 32;
        default_action = nothing;
    }
    table t_wide { key = { hdr.k.e: ternary; hdr.k.d: ternary; hdr.k.a: ternary; } actions = { set_word; nothing; } size = 64; default_action = nothing; }
    table t_profile { key = { hdr.k.a: exact; } actions = { forward; set_word; } size = 16; implementation = profile; }
    table t_selector { key = { hdr.k.a: lpm; hdr.k.d: selector; hdr.k.b: selector; } actions = { forward; nothing; } size = 16; implementation = selector; }
    table t_const {
        key = { hdr.k.g: ternary; }
        actions = { forward; nothing; }
        const entries = { 1: forward(1); 2 &&& 0x7e: forward(2); _: nothing(); }
        const default_action = nothing;
    }

    apply {
        t_exact.apply();
        if (t_one.apply().hit) { ports.count((bit<32>) hdr.k.g); }
        t_lpm.apply();
        t_lpm_exact.apply();
        t_ternary.apply();
        t_range.apply();
        t_mixed.apply();
        t_wide.apply();
        t_profile.apply();
        switch (t_selector.apply().action_run) { forward: { hdr.k.c = 1; } default: { hdr.k.c = 2; } }
        t_const.apply();
        limits.execute_meter((bit<32>) hdr.k.a, meta.other);
        hash(meta.hashed, HashAlgorithm.crc16, (bit<32>) hdr.k.b, { hdr.k.a, hdr.k.d, hdr.k.e }, (bit<32>) hdr.k.g);
        words.read(meta.word, meta.hashed);
        words.write((bit<32>) hdr.k.a, meta.word + 1);
        int<5> small;
        tiny.read(small, (bit<32>) hdr.k.c);
        tiny.write((bit<32>) hdr.k.c, small |+| 3);
        random(hdr.k.a, 0, hdr.k.a);
        if (meta.colour == 2 || meta.other == 2) { mark_to_drop(sm); }
    }
}

control TablesEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) { apply { } }
control TablesCompute(inout headers_t hdr, inout metadata_t meta) { apply { } }
control TablesDeparser(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr); } }

V1Switch(TablesParser(), TablesVerify(), TablesIngress(), TablesEgress(), TablesCompute(), TablesDeparser()) main;

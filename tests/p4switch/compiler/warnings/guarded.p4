// What must not be warned of: everything here is written before it is read, or looked at before it is used.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; }
header_union u_t { h_t first; h_t second; }
struct headers_t { h_t h; h_t i; h_t[4] stack; u_t u; h_t added; }
struct pair_t { bit<8> x; bit<8> y; }
struct metadata_t { bit<8> kind; pair_t pair; }

bit<8> absolute(in bit<8> value) {
    if (value > 128) { return 0 - value; } else { return value; }
}

bit<8> total(in bit<8> count) {
    bit<8> sum = 0;
    bit<8> latest;
    for (bit<8> n in 1 .. count) {
        latest = n;
        if (latest == 9) { break; }
        sum = sum + latest;
    }
    return sum;
}

bit<8> decide(in bit<8> value) {
    switch (value) {
        1: { return 5; }
        default: { return 6; }
    }
}

parser Inner(packet_in packet, out h_t inner_header) {
    state start { packet.extract(inner_header); transition accept; }
}

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    Inner() inner;
    bit<8> left;
    state start {
        packet.extract(hdr.h);
        left = hdr.h.a;
        transition select(hdr.h.a) { 0: accept; 1: other; 2: sub; default: loop; }
    }
    state loop {
        packet.extract(hdr.stack.next);
        left = left - 1;
        transition select(left, hdr.stack.last.a) { (0, _): accept; (_, 1): other; default: loop; }
    }
    state other { packet.extract(hdr.u.first); transition select(hdr.u.first.a) { 1: sub; default: accept; } }
    state sub { inner.apply(packet, hdr.i); transition select(hdr.i.a) { 1: accept; default: reject; } }
}

control Sub(inout h_t part, out bit<8> result) {
    apply {
        result = 0;
        if (!part.isValid()) { return; }
        result = part.a;
    }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    bit<8> chosen;
    Sub() sub;
    action choose(bit<8> value) { chosen = value; }
    action both(out bit<8> x, out bit<8> y) { x = 1; y = 2; }
    action encapsulate() { hdr.added.setValid(); hdr.added.a = 1; hdr.added.b = 2; }
    action strip() { hdr.h.setInvalid(); }
    @noWarn("invalid-header") action trusted() { hdr.h.setInvalid(); hdr.h.a = 3; }
    action rewrite() { hdr.h.a = 3; }
    table selection {
        key = { hdr.h.isValid() : exact; meta.kind : ternary; }
        actions = { choose; }
        default_action = choose(0);
    }
    table framing {
        key = { meta.kind : exact; }
        actions = { encapsulate; strip; NoAction; }
        default_action = NoAction();
    }
    table later {
        key = { meta.kind : exact; }
        actions = { rewrite; NoAction; }
        default_action = NoAction();
    }
    table checked {
        key = { meta.kind : exact; }
        actions = { encapsulate; NoAction; }
        const default_action = NoAction();
    }
    apply {
        bit<8> result;
        bit<8> first;
        bit<8> second;
        pair_t pair;
        selection.apply();
        hdr.h.a = chosen;
        sub.apply(hdr.i, result);
        both(first, second);
        pair.x = first;
        pair.y = second;
        meta.pair = pair;
        hdr.h.b = (bit<16>) absolute(total(decide(result)));
        if (hdr.u.first.isValid() && hdr.u.first.a == 1) { hdr.u.first.b = 2; }
        if (!hdr.u.second.isValid() || hdr.u.second.a == 1) { meta.kind = 1; }
        bit<8> guarded = hdr.i.isValid() ? hdr.i.a : 0;
        if (guarded == 0) { exit; }
        switch (framing.apply().action_run) {
            encapsulate: { hdr.added.a = 4; }
            default: { }
        }
        later.apply();
        if (checked.apply().hit) { meta.kind = 2; }
        if (hdr.i.isValid()) { meta.kind = 7; }
        if (meta.kind == 7) { hdr.i.a = 8; }
        trusted();
        hdr.stack.push_front(1);
        hdr.stack[0].setValid();
        hdr.stack[0].a = 5;
        hdr.stack[0].b = 6;
    }
}

#include "skeleton.p4"

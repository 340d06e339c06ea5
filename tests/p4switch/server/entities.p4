// One of everything that P4Runtime can write or read. The first byte of a packet chooses what happens to it.
#include <core.p4>
#include <v1model.p4>

header op_t {
    bit<8> op;
    bit<8> tag;
    bit<16> number;
    bit<32> address;
}

@controller_header("packet_in")
header packet_in_t {
    bit<9> ingress_port;
    bit<7> pad;
    bit<16> reason;
}

@controller_header("packet_out")
header packet_out_t {
    bit<9> egress_port;
    bit<7> pad;
}

struct headers_t {
    packet_in_t packet_in;
    packet_out_t packet_out;
    op_t op;
}

struct metadata_t {
    bit<8> in_set;
    bit<8> colour;
}

struct learned_t {
    bit<9> port;
    bit<32> address;
    bool flag;
}

enum bit<8> level_t {
    LOW = 1,
    HIGH = 200
}

struct inner_t {
    int<12> offset;
    level_t level;
}

struct nested_t {
    inner_t inner;
    bit<16> number;
}

const bit<9> CPU_PORT = 64;

parser EntitiesParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    value_set<bit<8>>(4) special_tags;

    state start {
        transition select(standard_metadata.ingress_port) {
            CPU_PORT: parse_packet_out;
            default: parse_op;
        }
    }

    state parse_packet_out {
        packet.extract(hdr.packet_out);
        transition accept;
    }

    state parse_op {
        packet.extract(hdr.op);
        transition select(hdr.op.tag) {
            special_tags: special;
            default: accept;
        }
    }

    state special {
        meta.in_set = 1;
        transition accept;
    }
}

control EntitiesVerifyChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control EntitiesIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    counter(8, CounterType.packets_and_bytes) op_counter;
    meter(4, MeterType.packets) op_meter;
    register<bit<20>>(4) op_register;
    register<int<12>>(2) signed_register;
    register<bool>(2) bool_register;
    register<level_t>(2) level_register;
    direct_counter(CounterType.packets_and_bytes) exact_hits;
    direct_counter(CounterType.packets) const_hits;
    direct_meter<bit<8>>(MeterType.packets) exact_meter;
    action_profile(4) members;
    @max_group_size(8)
    action_selector(HashAlgorithm.crc16, 16, 16) groups;

    action forward(bit<9> port) {
        standard_metadata.egress_spec = port;
    }

    action forward_and_tag(bit<9> port, bit<8> tag) {
        standard_metadata.egress_spec = port;
        hdr.op.tag = tag;
    }

    action drop() {
        mark_to_drop(standard_metadata);
    }

    action metered(bit<9> port) {
        standard_metadata.egress_spec = port;
        exact_hits.count();
        exact_meter.read(meta.colour);
    }

    table exact_table {
        key = { hdr.op.number: exact @name("number"); }
        actions = { metered; @defaultonly drop; }
        const default_action = drop();
        counters = exact_hits;
        meters = exact_meter;
        size = 8;
    }

    table lpm_table {
        key = { hdr.op.address: lpm @name("address"); }
        actions = { forward; forward_and_tag; drop; }
        default_action = drop();
        size = 4096;
    }

    table ternary_table {
        key = {
            hdr.op.address: ternary @name("address");
            hdr.op.number: range @name("number");
            hdr.op.tag: optional @name("tag");
        }
        actions = { forward; forward_and_tag; drop; }
        default_action = forward(9);
        size = 64;
    }

    table const_table {
        key = { hdr.op.number: exact @name("number"); }
        actions = { forward; drop; }
        const default_action = drop();
        const entries = {
            1: forward(1);
            2: forward(2);
        }
        counters = const_hits;
    }

    table initial_table {
        key = { hdr.op.number: exact @name("number"); }
        actions = { @tableonly forward; @defaultonly drop; }
        default_action = drop();
        entries = {
            const 1: forward(1);
            2: forward(2);
        }
        size = 8;
    }

    table keyless_table {
        actions = { forward; drop; }
        default_action = forward(3);
    }

    table profile_table {
        key = { hdr.op.number: exact @name("number"); }
        actions = { forward; drop; }
        implementation = members;
        size = 16;
    }

    table selector_table {
        key = {
            hdr.op.number: exact @name("number");
            hdr.op.address: selector;
        }
        actions = { forward; drop; }
        implementation = groups;
        size = 16;
    }

    table idle_table {
        key = { hdr.op.number: exact @name("number"); }
        actions = { forward; drop; }
        default_action = drop();
        support_timeout = true;
        size = 16;
    }

    apply {
        if (hdr.packet_out.isValid()) {
            standard_metadata.egress_spec = hdr.packet_out.egress_port;
            hdr.packet_out.setInvalid();
        } else if (hdr.op.op == 1) {
            exact_table.apply();
            hdr.op.tag = meta.colour;
        } else if (hdr.op.op == 2) {
            lpm_table.apply();
        } else if (hdr.op.op == 3) {
            ternary_table.apply();
        } else if (hdr.op.op == 4) {
            const_table.apply();
        } else if (hdr.op.op == 5) {
            profile_table.apply();
        } else if (hdr.op.op == 6) {
            selector_table.apply();
        } else if (hdr.op.op == 7) {
            idle_table.apply();
        } else if (hdr.op.op == 8) {
            op_counter.count((bit<32>) hdr.op.number);
            standard_metadata.egress_spec = 1;
        } else if (hdr.op.op == 9) {
            op_meter.execute_meter<bit<8>>((bit<32>) hdr.op.number, hdr.op.tag);
            standard_metadata.egress_spec = 1;
        } else if (hdr.op.op == 10) {
            bit<20> value;
            op_register.read(value, (bit<32>) hdr.op.number);
            op_register.write((bit<32>) hdr.op.number, value + 1);
            hdr.op.address = (bit<32>) value;
            standard_metadata.egress_spec = 1;
        } else if (hdr.op.op == 11) {
            digest<learned_t>(1, { standard_metadata.ingress_port, hdr.op.address, true });
            standard_metadata.egress_spec = 1;
        } else if (hdr.op.op == 12) {
            standard_metadata.mcast_grp = hdr.op.number;
        } else if (hdr.op.op == 13) {
            clone(CloneType.I2E, (bit<32>) hdr.op.number);
            standard_metadata.egress_spec = 1;
        } else if (hdr.op.op == 14) {
            hdr.packet_in.setValid();
            hdr.packet_in.ingress_port = standard_metadata.ingress_port;
            hdr.packet_in.pad = 0;
            hdr.packet_in.reason = hdr.op.number;
            standard_metadata.egress_spec = CPU_PORT;
        } else if (hdr.op.op == 15) {
            hdr.op.tag = meta.in_set;
            standard_metadata.egress_spec = 1;
        } else if (hdr.op.op == 16) {
            initial_table.apply();
        } else if (hdr.op.op == 17) {
            keyless_table.apply();
        } else if (hdr.op.op == 18) {
            int<12> offset;
            bool flag;
            level_t level;
            signed_register.read(offset, (bit<32>) hdr.op.number);
            bool_register.read(flag, (bit<32>) hdr.op.number);
            level_register.read(level, (bit<32>) hdr.op.number);
            digest<nested_t>(1, { { offset, level }, hdr.op.number });
            signed_register.write((bit<32>) hdr.op.number, offset - 1);
            bool_register.write((bit<32>) hdr.op.number, !flag);
            level_register.write((bit<32>) hdr.op.number, level_t.HIGH);
            standard_metadata.egress_spec = 1;
        } else {
            drop();
        }
    }
}

control EntitiesEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    apply { }
}

control EntitiesComputeChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply { }
}

control EntitiesDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.packet_in);
        packet.emit(hdr.op);
    }
}

V1Switch(EntitiesParser(), EntitiesVerifyChecksum(), EntitiesIngress(), EntitiesEgress(), EntitiesComputeChecksum(),
         EntitiesDeparser()) main;

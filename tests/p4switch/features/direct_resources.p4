// Direct counters and meters: every hit counts and meters, whether or not the action says so; a miss does not.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> key; bit<8> colour; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    direct_counter(CounterType.packets_and_bytes) hits;
    direct_counter(CounterType.packets_and_bytes) silent_hits;
    direct_meter<bit<8>>(MeterType.bytes) rates;
    action colour() {
        hits.count();
        rates.read(hdr.h.colour);
        rates.read(hdr.h.colour); // reads again, meters once
    }
    action silent() { }
    action missed() { hdr.h.colour = 0xee; }

    table metered {
        key = { hdr.h.key: exact; }
        actions = { colour; silent; missed; }
        default_action = missed();
        counters = hits;
        meters = rates;
    }
    table counted {
        key = { hdr.h.key: ternary; }
        actions = { silent; }
        default_action = silent();
        counters = silent_hits;
    }
    apply {
        sm.egress_spec = 1;
        metered.apply();
        counted.apply();
    }
}

#include "skeleton.p4"

/* Parser and deparser. Behind a packet-out header the frame is payload: the controller's frames leave as they came. */

parser RackMmuParser(packet_in packet, out headers_t hdr, inout metadata_t meta,
                     inout standard_metadata_t standard_metadata) {
    state start {
        transition select(standard_metadata.ingress_port) {
            CPU_PORT: parse_packet_out;
            default: parse_ethernet;
        }
    }

    state parse_packet_out {
        packet.extract(hdr.packet_out);
        transition accept;
    }

    state parse_ethernet {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ether_type) {
            ETHERTYPE_RMEM: parse_rmem;
            default: accept;
        }
    }

    state parse_rmem {
        packet.extract(hdr.rmem);
        transition accept;
    }
}

control RackMmuDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.packet_in);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.rmem);
    }
}

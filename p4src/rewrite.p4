/* The only place where headers change: acts on the disposition that the stages before it decided. */

control Rewrite(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    counter(VERDICTS, CounterType.packets) verdicts;
    bit<8> verdict;

    apply {
        verdict = meta.verdict;
        if (meta.disposition == Disposition.FORWARD_REQUEST) {
            hdr.ethernet.dst_addr = ELEMENT_MAC_BASE | (bit<48>) meta.target;
            hdr.ethernet.src_addr = ELEMENT_MAC_BASE | (bit<48>) meta.element;
            hdr.rmem.flags = hdr.rmem.flags & (FLAG_RETRY | FLAG_CACHED);
            hdr.rmem.src = meta.element;
            hdr.rmem.dst = meta.target;
            hdr.rmem.generation = meta.generation;
            hdr.rmem.pa = hdr.rmem.va + meta.offset;
            standard_metadata.egress_spec = meta.out_port;
        } else if (meta.disposition == Disposition.FORWARD_REPLY) {
            hdr.ethernet.dst_addr = ELEMENT_MAC_BASE | (bit<48>) hdr.rmem.dst;
            hdr.ethernet.src_addr = ELEMENT_MAC_BASE | (bit<48>) meta.element;
            hdr.rmem.flags = hdr.rmem.flags & FLAG_BY_ELEMENT; // only the element itself can have refused
            hdr.rmem.src = meta.element;
            standard_metadata.egress_spec = meta.out_port;
        } else if (meta.disposition == Disposition.REFUSE) {
            // The request itself, turned around, without its payload.
            hdr.ethernet.dst_addr = ELEMENT_MAC_BASE | (bit<48>) meta.element;
            hdr.ethernet.src_addr = ELEMENT_MAC_BASE;
            hdr.rmem.op = hdr.rmem.op | REPLY_BIT;
            hdr.rmem.flags = FLAG_BY_SWITCH;
            hdr.rmem.status = meta.status;
            hdr.rmem.src = CONTROLLER;
            hdr.rmem.dst = meta.element;
            hdr.rmem.generation = 0;
            hdr.rmem.pa = 0;
            truncate(FRAME_OVERHEAD);
            standard_metadata.egress_spec = standard_metadata.ingress_port;
            verdict = Verdict.REFUSED + (bit<8>) meta.status;
        } else if (meta.disposition == Disposition.TO_CONTROLLER) {
            hdr.rmem.src = meta.element;
            hdr.packet_in.setValid();
            hdr.packet_in.ingress_port = standard_metadata.ingress_port;
            hdr.packet_in.pad = 0;
            hdr.packet_in.element = meta.element;
            standard_metadata.egress_spec = CPU_PORT;
        } else if (meta.disposition == Disposition.FROM_CONTROLLER) {
            standard_metadata.egress_spec = hdr.packet_out.egress_port;
            hdr.packet_out.setInvalid();
        } else {
            mark_to_drop(standard_metadata);
        }
        verdicts.count((bit<32>) verdict);
    }
}

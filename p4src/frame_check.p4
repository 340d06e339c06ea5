/* Is this a frame that the Rack MMU deals with at all? What is not, is dropped and counted. */

control FrameCheck(inout headers_t hdr, inout metadata_t meta, in port_t ingress_port) {
    action drop(Verdict verdict) {
        meta.disposition = Disposition.DROP;
        meta.verdict = verdict;
    }

    apply {
        if (hdr.packet_out.isValid()) {
            meta.disposition = Disposition.FROM_CONTROLLER;
            meta.verdict = Verdict.FROM_CONTROLLER;
        } else if (ingress_port == CPU_PORT) {
            drop(Verdict.BAD_PACKET_OUT);
        } else if (!hdr.ethernet.isValid()) {
            drop(Verdict.NOT_RMEM);
        } else if (hdr.ethernet.ether_type != ETHERTYPE_RMEM) {
            drop(Verdict.NOT_RMEM);
        } else if (!hdr.rmem.isValid()) {
            drop(Verdict.TRUNCATED);
        } else if (hdr.rmem.version != RMEM_VERSION) {
            drop(Verdict.BAD_VERSION);
        }
    }
}

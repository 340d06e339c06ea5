/* Who is on this port. */

control Attachment(inout metadata_t meta, in port_t port) {
    counter(ELEMENTS, CounterType.packets_and_bytes) element_traffic; // requests from an element, replies of it

    action attach(element_id_t element, Kind kind) {
        meta.element = element;
        meta.kind = kind;
        meta.fenced = false;
    }

    action fence(element_id_t element, Kind kind) {
        meta.element = element;
        meta.kind = kind;
        meta.fenced = true;
    }

    action unknown_port() {
        meta.disposition = Disposition.DROP;
        meta.verdict = Verdict.UNKNOWN_PORT;
    }

    // An entry: this element is on this port, and it is fenced or not. Written by the controller when an element is wired,
    // fenced or unfenced. A miss: nobody is there, the frame is dropped.
    @name("element")
    table element_table {
        key = { port: exact @name("port"); }
        actions = { attach; fence; @defaultonly unknown_port; }
        const default_action = unknown_port();
        size = 512;
    }

    apply {
        if (element_table.apply().hit) {
            element_traffic.count((bit<32>) meta.element);
        }
    }
}

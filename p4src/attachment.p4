/* Who is on this port. */

control Attachment(inout metadata_t meta, in port_t port) {
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
        meta.element = CONTROLLER;
        meta.kind = Kind.NONE;
        meta.fenced = false;
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
        element_table.apply();
    }
}

/* May this element speak for this process? Spoofed process ids die here. */

control Binding(inout metadata_t meta, in pid_t pid) {
    counter(PROCESSES, CounterType.packets_and_bytes) process_traffic; // requests of a process, refused ones too

    action bind() { }

    action reject_spoof() {
        meta.disposition = Disposition.REFUSE;
        meta.status = Status.PERMISSION;
    }

    // An entry: the process runs on this compute element (pid 0 is its local OS). Written by the controller when a process
    // is created. A miss: the request is refused with PERMISSION.
    table binding {
        key = {
            meta.element: exact @name("element");
            pid: exact @name("pid");
        }
        actions = { bind; @defaultonly reject_spoof; }
        const default_action = reject_spoof();
        size = 65536;
    }

    apply {
        if (binding.apply().hit) {
            process_traffic.count((bit<32>) pid);
        }
    }
}

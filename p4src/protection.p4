/* What a process may do to an address, and in which generation of its mapping. */

control Protection(inout metadata_t meta, in pid_t pid, in address_t va, in bit<32> cached_generation) {
    direct_counter(CounterType.packets_and_bytes) protection_traffic;
    bit<8> granted = 0;

    action allow(bit<8> permissions, bit<32> generation) {
        protection_traffic.count();
        granted = permissions;
        meta.generation = generation;
    }

    action deny() {
        protection_traffic.count();
    }

    action no_access() { }

    // An entry: the process may do this to addresses with this prefix, in this generation of the mapping; `deny` takes a page
    // out of a longer range. Written by the controller. A miss: PERMISSION.
    table protection {
        key = {
            pid: exact @name("pid");
            va: lpm @name("va");
        }
        actions = { allow; deny; @defaultonly no_access; }
        const default_action = no_access();
        counters = protection_traffic;
        size = 65536;
    }

    apply {
        protection.apply();
        if ((granted & (bit<8>) meta.needed) != (bit<8>) meta.needed) {
            meta.disposition = Disposition.REFUSE;
            meta.status = Status.PERMISSION;
        } else if (meta.cached && meta.generation != cached_generation) {
            meta.disposition = Disposition.REFUSE;
            meta.status = Status.STALE_GENERATION;
        }
    }
}

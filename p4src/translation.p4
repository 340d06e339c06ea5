/* Virtual to physical: which memory element holds an address, and where. */

control Translation(inout metadata_t meta, in address_t va) {
    action map_page(element_id_t element, address_t offset) {
        meta.target = element;
        meta.offset = offset;
    }

    action unmapped() {
        meta.disposition = Disposition.REFUSE;
        meta.status = Status.UNMAPPED;
    }

    // An entry: addresses with this prefix are in this memory element, at va + offset (modulo 2^64). Coarse by default;
    // a page that lives elsewhere has a longer prefix, and so has one that was freed (`unmapped`). Written by the controller. A
    // miss: UNMAPPED.
    table translation {
        key = { va: lpm @name("va"); }
        actions = { map_page; unmapped; }
        const default_action = unmapped();
        size = 65536;
    }

    apply {
        translation.apply();
    }
}

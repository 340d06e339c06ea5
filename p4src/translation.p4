/* Virtual to physical: which memory element holds an address, and where. A request may carry a translation that its sender has
 * cached: an entry here confirms or refuses it; where there is none, the element's page table alone judges where it points. */

control Translation(inout metadata_t meta, in address_t va, in element_id_t cached_element, in address_t cached_pa) {
    action map_page(element_id_t element, address_t offset) {
        meta.target = element;
        meta.offset = offset;
    }

    action unmapped() {
        meta.disposition = Disposition.REFUSE;
        meta.status = Status.UNMAPPED;
    }

    action lost() {
        meta.disposition = Disposition.REFUSE;
        meta.status = Status.MEMORY_LOST;
    }

    // An entry: addresses with this prefix are in this memory element, at va + offset (modulo 2^64). Coarse by default;
    // a page that lives elsewhere has a longer prefix, and so has one that was freed (`unmapped`) or whose contents are `lost`.
    // Written by the controller. A miss: UNMAPPED, unless the request carries a translation.
    table translation {
        key = { va: lpm @name("va"); }
        actions = { map_page; unmapped; lost; }
        const default_action = unmapped();
        size = 65536;
    }

    apply {
        if (translation.apply().hit) {
            if (meta.cached && meta.disposition == Disposition.UNDECIDED &&
                (meta.target != cached_element || va + meta.offset != cached_pa)) {
                meta.disposition = Disposition.REFUSE;
                meta.status = Status.STALE_GENERATION;
            }
        } else if (meta.cached) {
            meta.disposition = Disposition.UNDECIDED;
            meta.target = cached_element;
            meta.offset = cached_pa - va;
        }
    }
}

/* The packet replication engine's configuration: multicast groups and clone sessions. The engine reads it for each packet. */
#include "internal.h"

#include <stdlib.h>

static int set(p4dp_switch *sw, dp_replicas **table, uint32_t id, const p4dp_replica *replicas, uint32_t count, uint32_t truncate_length,
               int must_exist) {
    if (id >= DP_GROUPS || count > DP_MAX_PASSES) return P4DP_EINVAL;
    for (uint32_t i = 0; i < count; i++)
        if (replicas[i].port >= DP_PORTS) return P4DP_EINVAL;
    dp_replicas *made = malloc(sizeof *made + count * sizeof *replicas);
    if (made == NULL) return P4DP_ENOMEM;
    *made = (dp_replicas){.count = count, .truncate_length = truncate_length};
    if (count > 0) memcpy(made->replicas, replicas, count * sizeof *replicas);

    dp_gate_enter(&sw->gate);
    int result = table[id] == NULL && must_exist ? P4DP_ENOTFOUND : table[id] != NULL && !must_exist ? P4DP_EEXISTS : 0;
    dp_replicas *old = made;
    if (result == 0) {
        old = table[id];
        table[id] = made;
    }
    dp_gate_leave(&sw->gate);
    free(old);
    return result;
}

static int delete(p4dp_switch *sw, dp_replicas **table, uint32_t id) {
    if (id >= DP_GROUPS) return P4DP_EINVAL;
    dp_gate_enter(&sw->gate);
    dp_replicas *old = table[id];
    table[id] = NULL;
    dp_gate_leave(&sw->gate);
    free(old);
    return old == NULL ? P4DP_ENOTFOUND : 0;
}

int p4dp_multicast_set(p4dp_switch *sw, uint32_t group, const p4dp_replica *replicas, uint32_t count, int must_exist) {
    if (group == 0) return P4DP_EINVAL; /* mcast_grp 0 means no multicast */
    return set(sw, sw->groups, group, replicas, count, 0, must_exist);
}

int p4dp_multicast_delete(p4dp_switch *sw, uint32_t group) { return delete(sw, sw->groups, group); }

int p4dp_clone_session_set(p4dp_switch *sw, uint32_t session, const p4dp_replica *replicas, uint32_t count, uint32_t truncate_length,
                           int must_exist) {
    return set(sw, sw->sessions, session, replicas, count, truncate_length, must_exist);
}

int p4dp_clone_session_delete(p4dp_switch *sw, uint32_t session) { return delete(sw, sw->sessions, session); }

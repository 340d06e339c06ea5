"""A replicated key-value service by multi-Paxos. Replicas keep log and state in rack memory, where a standby finds them.

``core`` is the protocol without input or output; ``node`` joins it with durable state and the key-value machine; ``server`` adds
sockets, clocks and threads. docs/paxos.md explains it.
"""

"""Counting what fences stop, from flows as Open vSwitch prints them."""

from __future__ import annotations

from experiments.failover_net import stopped_by_fence

FLOWS = [
    "cookie=0x0, duration=9s, table=0, n_packets=7, n_bytes=42, priority=100,in_port=1 actions=drop",
    "cookie=0x0, duration=9s, table=0, n_packets=5, n_bytes=42, priority=100,in_port=11 actions=drop",
    "cookie=0x0, duration=9s, table=0, n_packets=3, n_bytes=9, priority=1,in_port=1,dl_src=a,dl_dst=b actions=output:100",
    "cookie=0x0, duration=9s, table=0, n_packets=2, n_bytes=9, priority=1,in_port=1,dl_src=a,dl_dst=c actions=output:100",
    "cookie=0x0, duration=9s, table=0, n_packets=9, n_bytes=9, priority=1,in_port=1,dl_src=a,dl_dst=d actions=output:2",
]


def test_frames_are_counted_by_port() -> None:
    assert stopped_by_fence(FLOWS, 1) == 7
    assert stopped_by_fence(FLOWS, 11) == 5
    assert stopped_by_fence(FLOWS, 2) == 0

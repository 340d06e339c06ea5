"""Benchmarks of memory operations: how long they take, what they cost in rules, packets and bytes."""

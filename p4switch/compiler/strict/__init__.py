"""``--strict-bmv2``: what p4c's bmv2 backend refuses of v1model programs that this compiler takes.

The rules are those of p4c 1.2.5; docs/p4switch_compiler.md has the table of them.
"""

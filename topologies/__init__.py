"""Racks as data, and the launcher that boots one in Mininet."""

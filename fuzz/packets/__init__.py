"""Fuzzing of the packet path: generated C and runtime in one process with libFuzzer, AddressSanitizer and UBSan (harness.h)."""

"""Host agents: memory elements, the local OS of compute elements, and the process API for applications."""

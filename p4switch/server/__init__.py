"""The P4Runtime server: gRPC in front of the data plane. It gets programs as IR and never parses P4."""

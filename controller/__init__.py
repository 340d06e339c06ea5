"""The slow control plane of the Rack MMU: a pure core (``controller.core``) inside a thin shell."""

import os

# Read when gRPC is imported: calls are polled by the thread that waits for them (docs/decisions/0020-fewer-hand-overs.md).
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

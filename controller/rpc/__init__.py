"""A gRPC client over plain TCP, in which whoever calls also sends and receives: no thread hands a call over to another.

``http2`` and ``messages`` are pure, ``channel`` has the sockets (docs/decisions/0026-a-grpc-client-of-our-own.md).
"""

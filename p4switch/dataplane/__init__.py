"""The data plane: a C runtime for compiled P4 programs (``runtime/``) and its Python binding.

It knows neither P4 text nor P4Info nor gRPC: programs arrive as C against ``include/p4prog.h``, control calls through
``include/p4dp.h``.
"""

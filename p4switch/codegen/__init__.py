"""The generator: typed IR in, C for ``dataplane/include/p4prog.h`` out."""

from p4switch.codegen.errors import CodegenError
from p4switch.codegen.program import INCLUDE_DIR, generate

__all__ = ["INCLUDE_DIR", "CodegenError", "generate"]

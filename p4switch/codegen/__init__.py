"""The generator: typed IR in, C for ``dataplane/include/p4prog.h`` out."""

from p4switch.codegen.errors import CodegenError
from p4switch.codegen.program import GENERATOR_VERSION, INCLUDE_DIR, generate

__all__ = ["GENERATOR_VERSION", "INCLUDE_DIR", "CodegenError", "generate"]

"""STF, the text format of packet tests that P4's compiler uses: what goes in, what is in the tables, what comes out."""

from p4switch.stf.runner import Failure, run_script
from p4switch.stf.script import StfError, parse_script

__all__ = ["Failure", "StfError", "parse_script", "run_script"]

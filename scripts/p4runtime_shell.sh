#!/bin/sh
# p4runtime-shell on the running rack's switch. It joins with the lowest election id, so it can look at everything, and the
# controller stays primary; `--election-id HI,LO` with a higher one takes the switch over. Arguments go to the shell.
set -eu
cd "$(dirname "$0")/.."
state=/run/rack-mmu/${RACK:-rack}/state.json
if [ ! -r "$state" ]; then
    echo "no rack is running ($state is not there): start one with 'make up'" >&2
    exit 1
fi
scripts/setup_shell_venv.sh
python=.venv-shell/bin/python
address=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["grpc"])' "$state")
exec "$python" -m p4runtime_sh --grpc-addr "$address" --device-id 1 --election-id 0,1 "$@"

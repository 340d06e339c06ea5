#!/bin/sh
# Makes the virtual environment of p4runtime-shell and PTF: the shell needs an older protobuf than the rest and so cannot share theirs.
# Does nothing when it is there. Usage: scripts/setup_shell_venv.sh [VENV]   (default .venv-shell)
set -eu
cd "$(dirname "$0")/.."
venv=${1:-.venv-shell}
stamp=$venv/.installed
wanted=$(sha256sum scripts/setup_shell_venv.sh)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "setup: making the virtual environment $venv"
    [ -x "$venv/bin/python" ] || /usr/bin/python3 -m venv "$venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check 'p4runtime-shell==0.0.6' 'ptf==0.12.0' 'protobuf>=3.20,<3.21' 'setuptools<81'
    echo "$wanted" >"$stamp"
fi

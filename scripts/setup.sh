#!/bin/sh
# Installs what the testbed needs on Debian 12: packages, a virtual environment, the switch's native runtime. Does nothing where
# all is there. Usage: scripts/setup.sh [VENV]   (default .venv)
set -eu
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python=/usr/bin/python3 # Debian's own: Mininet's Python package belongs to it

say() { echo "setup: $*"; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

missing=
for package in $(sed 's/#.*//' scripts/debian-packages.txt); do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    say "installing Debian packages:$missing"
    as_root apt-get update -q
    # shellcheck disable=SC2086 # one word a package
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
fi

stamp=$venv/.installed
wanted=$(cat pyproject.toml constraints.txt scripts/setup.sh | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    say "making the virtual environment $venv"
    [ -x "$venv/bin/python" ] || "$python" -m venv --system-site-packages "$venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
    echo "$wanted" >"$stamp"
fi

#!/usr/bin/env bash
# Usage: debian.sh venv|test|system|peers
# Makes sure that what pip cannot bring is there: installs it by name when root on Debian, else says what is missing,
# how to get it, and fails.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin" # where Debian keeps mosquitto, outside an ordinary user's PATH
python="${PYTHON:-python3}"

missing=()
needs() { # PACKAGE COMMAND...: the package is missing when the command fails
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

case "${1:-}" in
venv)
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "lineside needs Python 3.11 or newer as '$python'. Set another one: make PYTHON=/path/to/python3.11 ..." >&2
        exit 1
    fi
    needs python3-venv "$python" -c 'import ensurepip, venv'
    ;;
test)
    needs mosquitto command -v mosquitto       # the broker of the uplink and daemon tests
    needs chromium command -v chromium         # opens the status pages
    needs faketime command -v faketime         # steps the clock of a daemon
    needs libmodbus-dev test -e /usr/include/modbus/modbus.h # a Modbus server that is not ours
    needs gcc command -v gcc                   # compiles that server
    needs e2fsprogs command -v mkfs.ext4       # a file system whose power is cut
    needs systemd command -v systemd-analyze   # judges the hardening of the unit
    ;;
system)
    # The books of an ERP that the whole-daemon runs write to.
    needs postgresql bash -c 'compgen -G "/usr/lib/postgresql/*/bin/initdb"'
    ;;
peers)
    needs nodejs node -e 'process.exit(Number(parseInt(process.versions.node) < 18))' # runs the servers from npm that the tests speak to
    needs npm command -v npm
    ;;
*)
    echo "usage: $0 venv|test|system|peers" >&2
    exit 2
    ;;
esac

[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    echo "installing ${missing[*]}"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    echo "missing: ${missing[*]}" >&2
    echo "get it:  sudo apt-get install ${missing[*]}" >&2
    exit 1
fi

#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes .venv with the tools of tests/requirements.txt, on a Python that the ansible-core named there runs on.
set -euo pipefail
cd "$(dirname "$0")/../.."

fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

python=
for candidate in /usr/bin/python3 python3.13 python3.12 python3.11; do
    if fits "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    tests/testbench/debian.sh python3
    python=/usr/bin/python3
    fits "$python" || { echo "No Python 3.11, 3.12 or 3.13 here, and ansible-core needs one of them." >&2; exit 1; }
fi
"$python" -c 'import ensurepip' 2>/dev/null || tests/testbench/debian.sh python3-venv
tests/testbench/debian.sh debian-archive-keyring git

[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/pip install --quiet --requirement tests/requirements.txt
# The checkout is what the tests import; what it depends on is pinned above.
.venv/bin/pip install --quiet --constraint tests/requirements.txt --editable files/exporter
touch .venv/complete

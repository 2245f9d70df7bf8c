#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs the molecule scenarios (default: all that test). When one fails, the journal of its hosts is printed before
# they go.
set -euo pipefail
cd "$(dirname "$0")/../.."

for scenario in "${@:-default}"; do
    # What an interrupted run left; "never" below keeps the hosts also at the beginning.
    molecule destroy --scenario-name "$scenario"
    if ! molecule test --scenario-name "$scenario" --destroy never; then
        for host in $(molecule list --scenario-name "$scenario" --format plain | awk '{print $1}'); do
            echo "== Journal of $host"
            docker exec "$host" journalctl --no-pager --boot --lines 400 --priority info || true
        done
        molecule destroy --scenario-name "$scenario"
        exit 1
    fi
    molecule destroy --scenario-name "$scenario"
done

#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Installs the named Debian packages where they are missing, and says so first.
set -euo pipefail

# Parts of the tests run side by side, and apt is for one at a time.
exec {lock}<"$0"
flock "$lock"

missing=()
for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "Missing Debian packages, and only root can install them: apt-get install ${missing[*]}" >&2
    exit 1
fi
echo "Installing Debian packages on this machine: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{
    apt-get update -qq &&
        apt-get install -qq --yes --no-install-recommends -o DPkg::Lock::Timeout=600 "${missing[@]}"
} </dev/null >"$log" 2>&1 || { cat "$log" >&2; exit 1; }

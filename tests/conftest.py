# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the checkout importable as ``ansible_collections.njord.telemetry``, as Ansible sees it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLLECTIONS = ROOT / "playbooks" / "collections"


def link_the_checkout() -> None:
    """The link that ``make link`` makes too; ansible-playbook finds the collection by it."""
    link = COLLECTIONS / "ansible_collections" / "njord" / "telemetry"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to("../../../..", target_is_directory=True)


link_the_checkout()
sys.path.insert(0, str(COLLECTIONS))

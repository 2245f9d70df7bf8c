# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults: a process that is killed, a disk that is full or broken, and one that forgets what was not synced."""

from __future__ import annotations

import sys

from tests.conftest import COLLECTIONS

sys.path.insert(0, str(COLLECTIONS))

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What every module says of itself.

    A module that looks takes ``njord.telemetry.attributes`` and ``njord.telemetry.attributes.info_module``; one that
    acts takes ``njord.telemetry.attributes`` and ``njord.telemetry.attributes.actions``.
    """

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Will return details on what has changed, or would change in C(check_mode), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled or queried by the module has not changed in a relevant way.
  platform:
    description: Target operating systems that can be operated against.
    support: full
    platforms: debian
"""

    # Together with the fragment above: a module that looks.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  idempotent:
    support: full
    details:
      - This action does not modify state.
"""

    # Together with the fragment above: a module that computes a plan, and applies it outside check mode.
    ACTIONS = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - C(plan) holds the very actions that a run would take.
  diff_mode:
    support: full
  idempotent:
    support: full
"""

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How Alertmanager is reached; the options of ``_argspec.server_options("alertmanager", …)``."""

    DOCUMENTATION = r"""
options:
  alertmanager_url:
    description:
      - Address of Alertmanager as the host sees it, with its path prefix if it has one.
      - Not asked where it is not given.
    type: str
  alertmanager_username:
    description: User name for basic authentication.
    type: str
  alertmanager_password_file:
    description: File on the host that holds the password of O(alertmanager_username).
    type: path
  alertmanager_token_file:
    description: File on the host that holds a bearer token, for a proxy in front of Alertmanager.
    type: path
  alertmanager_ca_path:
    description:
      - File or directory of the authorities that Alertmanager's certificate is checked against.
      - The host's own where it is not given.
    type: path
  alertmanager_timeout:
    description: Seconds that one request may take from the connection to the last byte.
    type: float
    default: 10.0
"""

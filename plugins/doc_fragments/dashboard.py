# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How the dashboard is reached; the options of ``_argspec.server_options("dashboard", …)``."""

    DOCUMENTATION = r"""
options:
  dashboard_url:
    description:
      - Address of the dashboard as the host sees it, with its path prefix if it has one.
      - Not asked where it is not given.
    type: str
  dashboard_username:
    description: User name for basic authentication.
    type: str
  dashboard_password_file:
    description: File on the host that holds the password of O(dashboard_username).
    type: path
  dashboard_token_file:
    description: File on the host that holds the bearer token that the dashboard wants to see.
    type: path
  dashboard_ca_path:
    description:
      - File or directory of the authorities that the dashboard's certificate is checked against.
      - The host's own where it is not given.
    type: path
  dashboard_timeout:
    description: Seconds that one request may take from the connection to the last byte.
    type: float
    default: 10.0
"""

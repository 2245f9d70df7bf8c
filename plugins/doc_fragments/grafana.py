# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How Grafana is reached; the options of ``_argspec.server_options("grafana", …)``."""

    DOCUMENTATION = r"""
options:
  grafana_url:
    description:
      - Address of Grafana as the host sees it, with its path prefix if it has one.
      - Not asked where it is not given.
    type: str
  grafana_username:
    description: User name for basic authentication.
    type: str
  grafana_password_file:
    description: File on the host that holds the password of O(grafana_username).
    type: path
  grafana_token_file:
    description: File on the host that holds the token of a service account.
    type: path
  grafana_ca_path:
    description:
      - File or directory of the authorities that Grafana's certificate is checked against.
      - The host's own where it is not given.
    type: path
  grafana_timeout:
    description: Seconds that one request may take from the connection to the last byte.
    type: float
    default: 10.0
"""

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How node_exporter is reached; the options of ``_argspec.server_options("node_exporter", …)``."""

    DOCUMENTATION = r"""
options:
  node_exporter_url:
    description:
      - Address of node_exporter as the host sees it, with its path prefix if it has one.
    type: str
    default: http://127.0.0.1:9100
  node_exporter_username:
    description: User name for basic authentication.
    type: str
  node_exporter_password_file:
    description: File on the host that holds the password of O(node_exporter_username).
    type: path
  node_exporter_token_file:
    description: File on the host that holds a bearer token, for a proxy in front of node_exporter.
    type: path
  node_exporter_ca_path:
    description:
      - File or directory of the authorities that node_exporter's certificate is checked against.
      - The host's own where it is not given.
    type: path
  node_exporter_timeout:
    description: Seconds that one request may take from the connection to the last byte.
    type: float
    default: 10.0
"""

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How the exporter is reached; the options of ``_argspec.server_options("exporter", …)``."""

    DOCUMENTATION = r"""
options:
  exporter_url:
    description:
      - Address of the exporter as the host sees it, with its path prefix if it has one.
    type: str
    default: http://127.0.0.1:9091
  exporter_username:
    description: User name for basic authentication.
    type: str
  exporter_password_file:
    description: File on the host that holds the password of O(exporter_username).
    type: path
  exporter_token_file:
    description: File on the host that holds the bearer token that the exporter wants to see.
    type: path
  exporter_ca_path:
    description:
      - File or directory of the authorities that the exporter's certificate is checked against.
      - The host's own where it is not given.
    type: path
  exporter_timeout:
    description: Seconds that one request may take from the connection to the last byte.
    type: float
    default: 10.0
"""

# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How Prometheus is reached; the options of ``_argspec.PROMETHEUS``."""

    DOCUMENTATION = r"""
options:
  prometheus_url:
    description:
      - Address of Prometheus as the host sees it, with its path prefix if it has one.
    type: str
    default: http://127.0.0.1:9090
  prometheus_username:
    description: User name for basic authentication.
    type: str
  prometheus_password_file:
    description: File on the host that holds the password of O(prometheus_username).
    type: path
  prometheus_token_file:
    description: File on the host that holds a bearer token, for a proxy in front of Prometheus.
    type: path
  prometheus_ca_path:
    description:
      - File or directory of the authorities that Prometheus' certificate is checked against.
      - The host's own where it is not given.
    type: path
  prometheus_timeout:
    description: Seconds that one request may take from the connection to the last byte.
    type: float
    default: 10.0
"""

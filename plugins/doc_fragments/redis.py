# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How the bus is reached; the options of ``_argspec.REDIS``."""

    DOCUMENTATION = r"""
options:
  redis_url:
    description:
      - Address of Redis as the host sees it, C(redis://host:port/number), C(rediss://) for TLS or C(unix:///path).
      - Without user name and password, which have options of their own. Redis is not asked where it is not given.
    type: str
  redis_username:
    description: User name, where Redis has users.
    type: str
  redis_password_file:
    description: File on the host that holds the password.
    type: path
  redis_ca_path:
    description:
      - File or directory of the authorities that the certificate of Redis is checked against.
      - The host's own where it is not given.
    type: path
  redis_timeout:
    description: Seconds that one answer may take.
    type: float
    default: 5.0
"""

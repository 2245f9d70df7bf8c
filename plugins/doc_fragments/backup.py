# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules that work on the catalogue of backups."""

    DOCUMENTATION = r"""
options:
  catalogue:
    description:
      - The directory of the backups, absolute; only its owner may look into it (0700).
      - It belongs on another disk than the data.
    type: path
    default: /var/backups/njord
  prometheus_unit:
    description: The unit that runs Prometheus.
    type: str
    default: prometheus.service
  prometheus_data_directory:
    description:
      - Where Prometheus keeps its data. Where it is empty the server says so itself, or else its unit.
    type: path
  prometheus_program:
    description: Prometheus, for a scratch server. Where it is empty it is the program that runs, or that of C(PATH).
    type: path
  promtool:
    description: The tool that reads blocks. Where it is empty it is the one beside Prometheus, or that of C(PATH).
    type: path
"""

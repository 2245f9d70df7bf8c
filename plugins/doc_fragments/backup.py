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
  restic_repository:
    description:
      - Where backups lie off the host, encrypted, in the words of restic 0.12 or later (Debian package restic); a
        directory, V(sftp:user@host:/srv/restic) or V(s3:https://host/bucket/directory). Nowhere where it is empty.
      - The first backup makes the repository, where there is none and never was one. Several hosts may share it.
    type: str
  restic_password_file:
    description:
      - File on the host with the password of O(restic_repository). Without it nobody can read what lies there, so keep
        it elsewhere as well.
    type: path
  restic_environment_file:
    description:
      - File on the host with lines C(KEY=VALUE) for restic, such as C(AWS_ACCESS_KEY_ID) and C(AWS_SECRET_ACCESS_KEY).
    type: path
  restic_options:
    description:
      - What restic takes as C(-o), such as V(sftp.command=ssh -i /etc/njord-backup/key user@host -s sftp). Everybody on
        the host can read it.
    type: list
    elements: str
    default: []
  restic_check:
    description:
      - In so many days (UTC) everything that lies there is read once; each backup reads the part of its day, and looks
        at the structure of the whole. V(1) reads everything each time, V(0) the structure only.
    type: int
    default: 7
  restic_program:
    description: Path of restic. Where it is empty it is that of C(PATH).
    type: path
"""

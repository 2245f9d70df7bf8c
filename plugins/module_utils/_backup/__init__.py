# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""Backups that are proven, and the way back.

A :class:`~.catalogue.Catalogue` is a directory on the host (0700). It holds a manifest for each backup, and every file
of all backups once, under the hash of its content. What a backup is made of comes from sources (:mod:`.source`):
Prometheus, journals, configuration. A part of a backup is *written*, then *verified*, then *proven*, and a restore
uses one manifest only.
"""

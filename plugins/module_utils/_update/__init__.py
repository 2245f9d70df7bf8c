# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The change of a service's version, with the way back decided before anything changes.

What is installed comes from a package or an archive (:mod:`.programs`). Whether it is well is asked before and after
(:mod:`.gate`). Where an older Prometheus cannot read what a newer one writes (:mod:`.versions`), its data are kept
aside (:mod:`.data`). A record says how far it is, so that whoever comes after a crash ends it (:mod:`.job`).
"""

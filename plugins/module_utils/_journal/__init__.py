# Copyright (c) 2026 Njord Trust
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection njord.telemetry: it can change without notice.

"""The journals of Njord Quant: what a file is, what lies where, and how fast it grows.

Imports nothing but itself and the standard library, so that the modules, the command on the host and the services
run the very same code.
"""

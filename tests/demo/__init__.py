# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration: a telemetry host with a past, live traffic and some trouble, and its weekly maintenance."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The services that carry the metrics of Njord Quant from its bus to Prometheus."""

__version__ = "0.1.0"

# SPDX-License-Identifier: GPL-3.0-or-later
"""The real parts that the tests and the demonstration run on: servers, a container engine, hosts."""

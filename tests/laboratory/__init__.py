# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault laboratory: real servers with something wrong, and whether the diagnosis says what.

A fault is a row of a table and one function that makes it; see :mod:`tests.laboratory.fault` for how to add one.
"""

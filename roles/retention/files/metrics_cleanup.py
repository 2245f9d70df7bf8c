# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``metrics-cleanup``."""

import sys

from module_utils._journal import command

sys.exit(command.main())

# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``njord-backup``."""

import sys

from module_utils._backup import command

sys.exit(command.main())

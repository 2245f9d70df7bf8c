# SPDX-License-Identifier: GPL-3.0-or-later
"""When cron expressions run, in a systemd timer's words: ``calendars.py EXPRESSION...``, as JSON.

By expression ``calendars`` (values of ``OnCalendar=``) and ``next`` (RFC 3339). What is none is said in one sentence.
"""

from __future__ import annotations

import datetime
import json
import sys
import time

from module_utils._journal import configuration, schedule


def told(expression: str) -> dict[str, object]:
    times = schedule.parse(expression)
    following = datetime.datetime.fromtimestamp(times.next(time.time()), datetime.timezone.utc)
    return {"calendars": times.calendars(), "next": following.strftime("%Y-%m-%dT%H:%M:%SZ")}


if __name__ == "__main__":
    try:
        print(json.dumps({expression: told(expression) for expression in sys.argv[1:]}))
    except (ValueError, configuration.ConfigurationError) as error:
        sys.exit(f"{error}.")

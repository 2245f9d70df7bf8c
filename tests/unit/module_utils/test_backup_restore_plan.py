# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore would do: what it brings, carries, refuses, and says would be lost."""

from __future__ import annotations

import dataclasses
import math
import typing as t

import pytest
from ansible_collections.njord.telemetry.plugins.module_utils._backup.catalogue import (
    DAMAGED,
    LEVELS,
    PROVEN,
    VERIFIED,
    WRITTEN,
)
from ansible_collections.njord.telemetry.plugins.module_utils._backup.manifest import File, Part
from ansible_collections.njord.telemetry.plugins.module_utils._backup.restore_plan import REPAIR, SWAP, Live, Plan, plan
from ansible_collections.njord.telemetry.plugins.module_utils._storage import Block, Retention, Storage

HOUR = 3600.0
GB = 2**30
NOW = 100 * HOUR
PLACE = "/var/lib/prometheus/metrics2"


def ulid(start: float) -> str:
    return f"01J{int(start):023d}"


def block(start: float, end: float, size: int = 1000) -> Block:
    """:param start: in hours, like ``end``."""
    return Block(ulid(start * 1000 + end), start * HOUR, end * HOUR, 10, size)


def part(*blocks: Block, retention: str = "30d", version: str = "3.5.0") -> Part:
    files = tuple(File(f"{one.ulid}/chunks/000001", one.bytes, 0o644, "0", "0", 0, "", "0" * 64) for one in blocks)
    rows = [
        {
            "ulid": one.ulid,
            "min_time": one.min_time * 1000,
            "max_time": one.max_time * 1000,
            "samples": one.samples,
            "series": 1,
            "chunks": 1,
        }
        for one in blocks
    ]
    facts = {"blocks": rows, "retention": retention, "version": version, "samples": 10 * len(rows), "counts": {}}
    return Part("prometheus", PLACE, (), files, facts)


def live(*blocks: Block, **changes: t.Any) -> Live:
    """A healthy server with a write-ahead log."""
    there = Live(
        PLACE, Storage(list(blocks), [], 500, NOW), {}, Retention.parse("30d", ""), "3.5.0", is_mount=False, free=GB
    )
    return dataclasses.replace(there, **changes)


def planned(backup: Part, there: Live, mode: str = SWAP, level: str = PROVEN) -> Plan:
    return plan(backup, level, there, mode, NOW)


def test_a_swap_brings_every_block_and_carries_the_healthy_ones_that_the_backup_does_not_cover() -> None:
    old, newer = block(80, 90), block(90, 98)
    found = planned(part(old), live(old, newer))
    assert (found.bring, found.carry, found.refusals, found.gaps) == ((old.ulid,), (newer.ulid,), (), ())
    assert found.head
    actions = [step.action for step in found.steps]
    assert actions == ["write", "prove", "carry", "stop", "carry", "keep", "place", "start", "compare"]


def test_a_live_block_that_reaches_beyond_the_backup_is_carried_and_one_within_it_is_not() -> None:
    within, beyond = block(80, 84), block(84, 92)
    found = planned(part(block(78, 86), block(86, 90)), live(within, beyond))
    assert found.carry == (beyond.ulid,)


def test_a_damaged_live_block_is_not_carried_and_what_only_it_had_is_named_as_lost() -> None:
    covered, alone = block(80, 90), block(90, 98)
    there = live(covered, alone, damaged={covered.ulid: "bad chunk", alone.ulid: "bad chunk"})
    found = planned(part(block(80, 90)), there)
    assert found.carry == ()
    assert [(gap.start, gap.end) for gap in found.gaps] == [(90 * HOUR, 98 * HOUR)]


def test_where_the_data_are_gone_everything_after_the_backup_is_named_as_lost() -> None:
    for there in (live(storage=None), live(storage=Storage([], [], 0, 0.0))):
        found = planned(part(block(80, 90)), there)
        assert [(gap.start, gap.end) for gap in found.gaps] == [(90 * HOUR, NOW)]
        assert not found.head
        assert found.refusals == ()


def test_a_shorter_retention_than_that_of_the_backup_is_refused_with_the_numbers() -> None:
    backup = part(block(10, 20), block(80, 90))
    for shorter in (Retention.parse("2d", ""), Retention.parse("", "1500B")):
        (refusal,) = planned(backup, live(retention=shorter)).refusals
        assert "1 of 2 blocks" in refusal
        assert str(shorter) in refusal
        assert "30 d" in refusal
        assert "1970-01-01T20:00:00Z" in refusal


def test_blocks_that_age_out_under_the_same_retention_are_no_reason_to_refuse() -> None:
    backup = part(block(10, 20), block(80, 90), retention="2d")
    assert planned(backup, live(retention=Retention.parse("2d", ""))).refusals == ()


def test_an_unknown_retention_is_refused() -> None:
    (refusal,) = planned(part(block(80, 90)), live(retention=None)).refusals
    assert "not known" in refusal


def test_too_little_room_is_refused_with_the_bytes_and_repair_is_offered() -> None:
    (refusal,) = planned(part(block(80, 90, GB)), live(free=GB // 2)).refusals
    assert "1 GiB are needed" in refusal
    assert "512 MiB are free" in refusal
    assert "repair" in refusal


@pytest.mark.parametrize(
    ("backup", "there", "mode", "level", "said"),
    [
        (part(block(80, 90)), live(is_mount=True), SWAP, VERIFIED, "mount point"),
        (part(block(80, 90)), live(), SWAP, DAMAGED, "damaged"),
        (part(), live(), SWAP, VERIFIED, "no block"),
        (part(block(80, 90)), live(storage=None), REPAIR, VERIFIED, "nothing to repair"),
    ],
)
def test_what_cannot_be_done_is_refused(backup: Part, there: Live, mode: str, level: str, said: str) -> None:
    assert any(said in refusal for refusal in planned(backup, there, mode, level).refusals)


def test_a_mount_point_can_be_repaired() -> None:
    assert planned(part(block(80, 90)), live(is_mount=True), REPAIR).refusals == ()


def test_a_repair_moves_bad_blocks_aside_and_brings_only_what_is_missing_then() -> None:
    healthy, bad, absent = block(70, 80), block(80, 90), block(60, 70)
    there = live(healthy, bad, damaged={bad.ulid: "bad chunk"})
    found = planned(part(absent, healthy, bad), there, REPAIR)
    assert set(found.bring) == {absent.ulid, bad.ulid}
    assert found.quarantine == (bad.ulid,)
    assert found.carry == (healthy.ulid,)
    assert found.needed == 2000
    assert not found.head


def test_a_repair_brings_nothing_that_a_healthy_compacted_block_has() -> None:
    found = planned(part(block(70, 75), block(75, 80)), live(block(70, 80)), REPAIR)
    assert found.bring == ()


def test_a_block_without_a_readable_meta_json_is_moved_aside_by_a_repair() -> None:
    there = live(storage=Storage([], [ulid(1)], 500, NOW))
    assert planned(part(block(80, 90)), there, REPAIR).quarantine == (ulid(1),)


def test_another_major_version_and_a_backup_that_was_not_proven_are_warned_of() -> None:
    warnings = planned(part(block(80, 90), version="2.53.3"), live(), level=VERIFIED).warnings
    assert any("not promised" in warning for warning in warnings)
    assert any("never proven" in warning for warning in warnings)
    assert planned(part(block(80, 90)), live()).warnings == ()


def test_the_time_without_alerts_is_a_part_of_the_whole() -> None:
    found = planned(part(block(80, 90)), live())
    assert 0 < found.blind < found.seconds < math.inf


def test_a_large_write_ahead_log_makes_the_time_without_alerts_longer() -> None:
    small = planned(part(block(80, 90)), live())
    large = planned(part(block(80, 90)), live(storage=Storage([], [], GB // 2, NOW)))
    assert large.blind > small.blind + 10


def test_a_repair_that_has_nothing_to_do_has_no_steps() -> None:
    healthy = block(80, 90)
    found = planned(part(healthy), live(healthy), REPAIR)
    assert (found.bring, found.quarantine, found.steps) == ((), (), ())


def test_a_mount_point_is_repaired_within_its_own_file_system() -> None:
    mounted = planned(part(block(80, 90)), live(is_mount=True), REPAIR)
    assert [step.subject for step in mounted.steps if step.action == "write"] == [f"{PLACE}/.restoring"]
    found = planned(part(block(80, 90)), live(), REPAIR)
    assert [step.subject for step in found.steps if step.action == "write"] == [f"{PLACE}.restoring"]


def test_everything_that_is_there_now_is_known_later() -> None:
    ours, bad = block(70, 80), block(80, 90)
    there = live(storage=Storage([ours, bad], [ulid(1)], 500, NOW), damaged={bad.ulid: "bad chunk"})
    for mode in (SWAP, REPAIR):
        assert set(planned(part(block(80, 90)), there, mode).seen) == {ours.ulid, bad.ulid, ulid(1)}
    assert planned(part(block(80, 90)), live(storage=None)).seen == ()


def test_only_what_promtool_has_read_counts_as_verified() -> None:
    levels = {level: planned(part(block(80, 90)), live(), level=level).is_verified for level in LEVELS}
    assert levels == {PROVEN: True, VERIFIED: True, WRITTEN: False, DAMAGED: False}


def test_a_backup_that_does_not_say_its_retention_was_made_under_none() -> None:
    backup = part(block(10, 20), block(80, 90), retention="")
    assert "1 of 2 blocks" in planned(backup, live(retention=Retention.parse("2d", ""))).refusals[0]

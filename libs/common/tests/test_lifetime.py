from __future__ import annotations

import math

from imageflow_common.lifetime import Lifetime, current_lifetime, living


def test_without_a_call_there_is_no_deadline_and_nobody_gives_up() -> None:
    assert current_lifetime().remaining() == math.inf
    assert not current_lifetime().given_up


def test_the_current_lifetime_is_that_of_the_innermost_block() -> None:
    outer, inner = Lifetime(60), Lifetime(30)
    with living(outer):
        with living(inner):
            assert current_lifetime() is inner
            assert 29 < current_lifetime().remaining() <= 30
        assert current_lifetime() is outer


def test_a_deadline_that_has_passed_leaves_nothing() -> None:
    assert Lifetime(-1).remaining() == 0


def test_who_waits_is_told_once_when_the_call_is_given_up() -> None:
    lifetime, told = Lifetime(), []
    with lifetime.on_give_up(lambda: told.append("waiting")):
        lifetime.give_up()
        lifetime.give_up()
    assert told == ["waiting"]
    assert lifetime.given_up


def test_who_begins_to_wait_too_late_is_told_at_once() -> None:
    lifetime, told = Lifetime(), []
    lifetime.give_up()
    with lifetime.on_give_up(lambda: told.append("late")):
        assert told == ["late"]


def test_who_waits_no_more_is_not_told() -> None:
    lifetime, told = Lifetime(), []
    with lifetime.on_give_up(lambda: told.append("never")):
        pass
    lifetime.give_up()
    assert told == []

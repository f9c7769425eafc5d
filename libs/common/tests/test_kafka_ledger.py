"""How far a partition is done."""

from __future__ import annotations

from imageflow_common.kafka_group import lag
from imageflow_common.kafka_ledger import Ledger


def test_the_lag_is_what_is_not_settled_from_the_very_first_message_on() -> None:
    ledger = Ledger()
    assert lag(end=3, done=ledger.done) == 0  # nothing is known yet of how far it is
    for offset in range(2):
        ledger.give(offset)
    assert lag(end=3, done=ledger.done) == 3
    ledger.settle(1)
    assert lag(end=3, done=ledger.done) == 3
    ledger.settle(0)
    assert lag(end=3, done=ledger.done) == 1
    ledger.give(2)
    ledger.settle(2)
    assert lag(end=3, done=ledger.done) == 0

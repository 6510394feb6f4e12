"""A slice of `make chaos-ledger`: nothing is wrong with the ledger, and what is made wrong on purpose is found."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from tests.chaos.battle import Plan, battle
from tests.chaos.chaos_ledger import template
from tests.chaos.defects import DEFECTS, PATCHES, apply
from tests.chaos.world import World


@pytest.fixture(scope="module")
def books() -> Iterator[tuple[str, World]]:
    with template() as filled:
        yield filled


def test_the_ledger_is_right_whatever_happens_to_clients_and_server(books: tuple[str, World]) -> None:
    verdict = battle(Plan("slice", 4_000, clients=8, kills_per_s=1, terminations_per_s=1), *books)
    assert verdict.violations == []
    assert verdict.operations >= 4_000
    assert verdict.harm["crashes"] == 1


@pytest.mark.parametrize("defect", ["held-not-counted", "release-keeps-held", "revoke-takes-dialing"])
def test_a_deliberate_defect_is_found(books: tuple[str, World], defect: str) -> None:
    assert battle(Plan(f"slice/{defect}", 5_000, clients=4, defect=defect, crashes=0), *books).violations


# What a defect may change: functions, and indexes.
_CODE = """
SELECT (SELECT md5(string_agg(prosrc, '' ORDER BY oid)) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
    (SELECT count(*) FROM pg_indexes WHERE schemaname = 'public')
"""


@pytest.mark.parametrize("defect", PATCHES)
def test_every_defect_still_fits_the_functions_that_it_breaks(books: tuple[str, World], defect: str) -> None:
    with psycopg.connect(books[0]) as connection:
        before = connection.execute(_CODE).fetchone()
        apply(connection, defect, PATCHES[defect])
        assert connection.execute(_CODE).fetchone() != before
        connection.rollback()


def test_there_are_enough_defects() -> None:
    assert len(set(DEFECTS)) == len(DEFECTS) >= 20

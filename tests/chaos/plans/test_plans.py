"""A slice of `make chaos`: the operator ends as it should, whatever befalls it; where it is made not to, that shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from tests.chaos.plans.database import Databases, databases
from tests.chaos.plans.defects import DEFECTS, broken
from tests.chaos.plans.drawing import plans
from tests.chaos.plans.faults import Fault
from tests.chaos.plans.play import Plan, Result, play
from tests.chaos.plans.workflows import WORKFLOWS

SLICE = 12


class References(dict[str, Result]):
    """Each workflow without a fault, played when it is asked for."""

    def __init__(self, opened: Databases) -> None:
        super().__init__()
        self._opened = opened

    def __missing__(self, name: str) -> Result:
        self[name] = play(Plan(name), self._opened)
        return self[name]

    def all(self) -> dict[str, Result]:
        """Of every workflow."""
        return {name: self[name] for name in WORKFLOWS}


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """A plan's operators complain, rightly."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module")
def opened() -> Iterator[Databases]:
    with databases() as opened:
        yield opened


@pytest.fixture(scope="module")
def references(opened: Databases) -> References:
    return References(opened)


def test_undisturbed_every_workflow_ends(references: References) -> None:
    assert {name: result.wrong for name, result in references.all().items() if result.wrong} == {}
    assert {name for name, result in references.all().items() if not result.dials} == set()


def test_no_more_workers_are_made_than_there_may_be(references: References) -> None:
    assert references["start"].ending["counts"]["Pod ADDED"] == 2


def test_nothing_differs_whatever_befalls_the_operator(references: References, opened: Databases) -> None:
    results = {
        plan.name: play(plan, opened, references[plan.workflow]) for plan in plans(references.all(), SLICE, "slice")
    }
    assert {name: result.wrong for name, result in results.items() if result.wrong} == {}
    assert all(result.struck for result in results.values())


def test_a_worker_whose_making_was_not_answered_is_not_made_again(references: References, opened: Databases) -> None:
    reference = references["delete.drained"]
    made = reference.requests.index("POST /api/v1/namespaces/sales/pods")
    fault = Fault("expired", made, "after")
    assert play(Plan("delete.drained", fault), opened, reference).wrong == []


@pytest.mark.parametrize("name", DEFECTS)
def test_a_deliberate_defect_is_found(name: str, references: References, opened: Databases) -> None:
    defect = DEFECTS[name]
    reference = references[defect.workflow]
    for plan in defect.plans(reference):
        with broken(name):
            found = play(plan, opened, reference).wrong
        if found:
            assert play(plan, opened, reference).wrong == []
            return
    pytest.fail(f"{name} shows in no plan")

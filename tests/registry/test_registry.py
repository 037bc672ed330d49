"""The table: who bears which name, who takes a place, what counts as backed up."""

from __future__ import annotations

from datetime import timedelta

import pytest

from provisioner.core.errors import PoolFull, RegistryUnusable
from provisioner.core.record import Record, State
from provisioner.registry.registry import Registry
from tests.support.tables import NOW, backup_of


def test_a_volume_is_found_by_name_and_by_id(registry: Registry) -> None:
    made = registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    assert (
        made
        == registry.names.find("a")
        == registry.volumes.get("v1-0")
        == registry.volumes.all()[0]
    )
    assert made.state is State.STOPPED
    assert made.generation == 0
    assert registry.names.find("b") is None
    assert registry.volumes.get("v1-1") is None


def test_a_session_has_one_volume_whoever_enters_it_first(registry: Registry) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    assert registry.volumes.create("v1-1", "a", "other", NOW, 5).id == "v1-0"
    assert len(registry.volumes.all()) == 1


def test_a_full_pool_enters_no_volume_but_still_finds_those_it_has(registry: Registry) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 1)
    with pytest.raises(PoolFull):
        registry.volumes.create("v1-1", "b", "python3", NOW, 1)
    assert registry.volumes.create("v1-1", "a", "python3", NOW, 1).id == "v1-0"
    assert registry.volumes.slots_taken() == 1


def test_a_pruned_volume_takes_no_place_until_it_takes_one_again(registry: Registry) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 1)
    registry.volumes.mark_pruned("v1-0")
    registry.volumes.create("v1-1", "b", "python3", NOW, 1)
    with pytest.raises(PoolFull):
        registry.volumes.take_slot("v1-0", NOW, 1)
    registry.volumes.take_slot("v1-0", NOW, 2)
    registry.volumes.take_slot("v1-0", NOW, 2)
    assert registry.volumes.slots_taken() == 2


def test_each_acquire_counts_the_generation_up(registry: Registry) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    assert registry.volumes.activate("v1-0", "python3", NOW).generation == 1
    active = registry.volumes.activate("v1-0", "r", NOW + timedelta(hours=1))
    assert (active.generation, active.state, active.kernelspec) == (2, State.ACTIVE, "r")
    assert active.stopped is None


def test_only_an_active_volume_is_stopped(registry: Registry) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    registry.volumes.activate("v1-0", "python3", NOW)
    later = NOW + timedelta(hours=1)
    assert registry.volumes.deactivate("v1-0", later).stopped == later
    assert registry.volumes.deactivate("v1-0", later + timedelta(hours=1)).stopped == later
    registry.volumes.mark_pruned("v1-0")
    assert registry.volumes.deactivate("v1-0", later).state is State.PRUNED


def test_a_renamed_volume_is_found_under_its_former_name(registry: Registry) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    renamed = registry.names.relabel("v1-0", "b", NOW)
    assert renamed is not None
    assert registry.names.find("a") is None
    assert registry.names.find_former("a") == registry.names.find("b") == renamed


def test_a_name_in_use_is_not_given_twice(registry: Registry) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    registry.volumes.create("v1-1", "b", "python3", NOW, 5)
    assert registry.names.relabel("v1-0", "b", NOW) is None
    assert registry.names.relabel("v1-9", "c", NOW) is None
    assert {r.session for r in registry.volumes.all()} == {"a", "b"}


def test_a_new_volume_takes_a_former_name_for_itself(registry: Registry) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    registry.names.relabel("v1-0", "b", NOW)
    registry.volumes.create("v1-1", "a", "python3", NOW, 5)
    assert registry.names.find_former("a") is None


def test_a_name_given_back_is_no_former_name(registry: Registry) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    registry.names.relabel("v1-0", "b", NOW)
    registry.names.relabel("v1-0", "a", NOW)
    assert registry.names.find_former("a") is None
    former = registry.names.find_former("b")
    assert former is not None
    assert former.session == "a"


def test_a_forgotten_volume_takes_its_former_names_along(registry: Registry) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    registry.names.relabel("v1-0", "b", NOW)
    registry.volumes.forget("v1-0")
    assert registry.names.find_former("a") is None
    assert registry.volumes.all() == []


def test_only_a_whole_verified_backup_of_the_newest_generation_counts(registry: Registry) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    registry.volumes.activate("v1-0", "python3", NOW)

    def counts() -> bool:
        record = registry.volumes.get("v1-0")
        assert record is not None
        return record.is_backed_up

    registry.backups.add(backup_of("v1-0", 1, partial=True))
    assert not counts()
    registry.backups.add(backup_of("v1-0", 1, verified=None))
    assert not counts()
    registry.backups.add(backup_of("v1-0", 1))
    assert counts()
    registry.volumes.activate("v1-0", "python3", NOW)
    assert not counts()
    registry.backups.add(backup_of("v1-0", 2, "c"))
    assert counts()
    registry.backups.remove(backup_of("v1-0", 2, "c"))
    assert not counts()
    assert [b.generation for b in registry.backups.all("v1-0")] == [1]


def test_an_adopted_volume_whose_name_is_taken_gets_another(registry: Registry) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    registry.volumes.adopt(Record("v1-1", "a", "python3", State.STOPPED, 3, NOW, stopped=NOW))
    registry.volumes.adopt(Record("v1-2", "a", "python3", State.PRUNED, 3, NOW))
    assert {r.id: r.session for r in registry.volumes.all()} == {
        "v1-0": "a",
        "v1-1": "a (2)",
        "v1-2": "a (3)",
    }
    registry.volumes.adopt(Record("v1-1", "other", "r", State.PRUNED, 9, NOW))
    known = registry.volumes.get("v1-1")
    assert known is not None
    assert (known.session, known.generation) == ("a (2)", 3)


@pytest.mark.parametrize("session", ["x'; DROP TABLE volumes; --", "🧪", "a" * 4096, "%", "(2)"])
def test_a_name_is_a_value_and_never_part_of_a_statement(registry: Registry, session: str) -> None:
    registry.volumes.create("v1-0", session, "python3", NOW, 5)
    found = registry.names.find(session)
    assert found is not None
    assert found.session == session
    assert registry.check_all() == []


def test_nobody_is_found_under_a_name_that_no_table_can_hold(registry: Registry) -> None:
    registry.volumes.create("v1-0", "a", "python3", NOW, 5)
    assert registry.names.find("a\udcff") is None
    assert registry.names.find_former("\ud800") is None


def test_an_unknown_volume_cannot_be_changed(registry: Registry) -> None:
    with pytest.raises(RegistryUnusable, match="v1-9 has disappeared"):
        registry.volumes.activate("v1-9", "python3", NOW)

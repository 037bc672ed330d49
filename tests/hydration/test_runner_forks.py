"""Processes that fork while a volume is hydrated."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest

from provisioner.core.errors import Cancelled
from provisioner.core.progress import StepProgress
from provisioner.hydration.step import Launch, Place
from tests.support.children import Child
from tests.support.starts import run


class Does:
    """A step that calls something when it hydrates."""

    def __init__(self, name: str, do: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self._do = do

    def key(self, place: Place, launch: Launch) -> str:
        return "1"

    def intact(self, place: Place, launch: Launch) -> bool:
        return True

    def hydrate(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        self._do()

    def environment(self, place: Place, launch: Launch) -> Launch:
        return launch


def test_a_child_forked_during_a_hydration_does_not_block_another_start(
    place: Place, launch: Launch
) -> None:
    children: list[Child] = []
    cancel = Event()
    cancel.set()  # a start that has to wait raises Cancelled at once
    run([Does("forks", lambda: children.append(Child(lambda: "up", stays=True)))], place, launch)
    with children[0] as child:
        assert child.said() == "up"
        with pytest.raises(Cancelled) as cancelled:
            run([Does("another")], place, launch, cancel=cancel)
        assert "while another start" not in str(cancelled.value)
        run([Does("another")], place, launch)

"""A package of another author that adds options to kernel.json."""

from __future__ import annotations

from pathlib import Path

_MODULE = '''
from pathlib import Path
from dataclasses import replace
from provisioner.core.errors import ConfigError
from provisioner.hydration.step import Launch

class Data:
    """Puts a data set into the volume."""

    name = "example-data"

    def __init__(self, text):
        self.text = text

    def key(self, place, launch):
        return self.text

    def intact(self, place, launch):
        return (place.volume / "data.txt").exists()

    def hydrate(self, place, launch, progress, cancel):
        progress(self.name, "fetching", 0.5)
        (place.volume / "data.txt").write_text(self.text)

    def environment(self, place, launch):
        return replace(launch, env={**launch.env, "DATA": str(place.volume / "data.txt")})

def data(value):
    if not isinstance(value, str):
        raise ConfigError("example_data must be a text: write it in quotes")
    return Data(value)

def nothing(value):
    return object()

class Odd(Data):
    """A step that `code` changes in one respect."""

    def __init__(self, code):
        super().__init__("odd")
        exec(code, {"step": self, "Launch": Launch})

def odd(value):
    return Odd(value)
'''
_ENTRY_POINTS = """\
[provisioner.hydration_steps]
example_data = example_data:data
example_nothing = example_data:nothing
example_odd = example_data:odd
example_gone = example_gone:gone
"""


def install_example(site: Path) -> None:
    """Install the package `example-data`, as pip would, into a directory for packages."""
    info = site / "example_data-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "example_data.py").write_text(_MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example-data\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(_ENTRY_POINTS)

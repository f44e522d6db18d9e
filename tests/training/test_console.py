"""What a terminal shows of a run: on a narrow one the values are cut, not the step and the time."""

import io

import pytest
from rich.console import Console as RichConsole

from segan.training.console import Console

VALUES = {f"generator/{name}": 0.5 for name in ("area", "binarity", "paste", "cut", "empty")}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_step_and_times_are_shown_whatever_the_width(width):
    console = Console(100, quiet=False)
    console.show(VALUES)
    console.advance(37)
    file = io.StringIO()
    rich = RichConsole(width=width, file=file, force_terminal=True, color_system=None)
    rich.print(console.bar.get_renderable())
    (line,) = [line for line in file.getvalue().splitlines() if line.strip()]
    assert line.startswith("training ")
    assert " 37/100 " in line
    assert "-:--:--" in line or "0:00:00" in line
    assert ("empty" in line) == (width > 80)

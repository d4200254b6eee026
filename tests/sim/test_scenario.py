"""Scenarios: a timeline of verbs, told on virtual time, with the line of every mistake."""

import asyncio
from pathlib import Path

import pytest

from sim import virtual_time
from sim.control import Command
from sim.devices.printer import VirtualPrinter
from sim.devices.ups import VirtualMegatecUps
from sim.scenario import ScenarioError, check_scenario, load_scenario, play

STORY = """
# The roll ends, then the mains fails.
[[at]]
seconds = 60
device = "ups"
verb = "mains_off"

[[at]]
seconds = 5.5
device = "printer"
verb = "paper_out"
args = {after_millimetres = 0}
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "story.toml"
    file.write_text(text)
    return file


def test_steps_come_in_the_order_of_time_with_their_lines(tmp_path: Path) -> None:
    file = write(tmp_path, STORY)
    steps = load_scenario(file)
    assert [(step.seconds, step.where) for step in steps] == [(5.5, f"{file}:8"), (60, f"{file}:3")]
    assert steps[0].command == Command("printer", "paper_out", {"after_millimetres": 0})


def test_each_verb_is_done_at_its_time_on_the_loops_clock(tmp_path: Path) -> None:
    steps = load_scenario(write(tmp_path, STORY))
    done: list[tuple[float, str]] = []

    async def story() -> None:
        now = asyncio.get_running_loop().time
        printer, ups = VirtualPrinter(), VirtualMegatecUps(now)

        def paper_out(after_millimetres: float = 0.0) -> None:
            done.append((now(), "paper_out"))
            printer.paper_out(after_millimetres)

        async def mains_off() -> None:
            done.append((now(), "mains_off"))
            ups.mains_off()

        await asyncio.sleep(100)
        await play(steps, {"printer": {"paper_out": paper_out}, "ups": {"mains_off": mains_off}})
        assert printer.condition.paper_end

    virtual_time.run(story())
    assert done == [(pytest.approx(105.5), "paper_out"), (pytest.approx(160), "mains_off")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[at]\n", r"story\.toml: .*line 1"),
        ("[at]\nseconds = 1\n", r"Expected `array`.*\[\[at\]\]"),
        ("colour = 1\n", r"story\.toml: Object contains unknown field `colour`"),
        ("at = [{seconds = 1, device = 'a', verb = 'b'}]\n", "begin each step with"),
        ("\n[[at]]\nseconds = -1\ndevice = 'a'\nverb = 'b'\n", r"story\.toml:2: Expected `float` >= 0.*seconds"),
        ("[[at]]\nseconds = 1\ndevice = 'a'\n", r"story\.toml:1: Object missing required field `verb`"),
        ("[[at]]\nsecond = 1\n", r"story\.toml:1: .*unknown field `second`"),
        ("[[at]]\nseconds = 1\ndevice = 'a'\nverb = 'b'\nargs = 3\n", r"story\.toml:1: Expected `object`.*args"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        load_scenario(write(tmp_path, text))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="No such file"):
        load_scenario(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"\xff")
    with pytest.raises(ScenarioError, match="not UTF-8"):
        load_scenario(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ('device = "fridge"\nverb = "open"', r":1: no device fridge; there are printer"),
        ('device = "printer"\nverb = "shout"', r":1: printer has no verb shout; there are paper_out"),
        ('device = "printer"\nverb = "refill"\nargs = {rolls = 2}', r":1: printer refill: .*rolls"),
    ],
)
def test_what_the_rig_does_not_have_is_told_before_anything_is_done(tmp_path: Path, step: str, said: str) -> None:
    steps = load_scenario(write(tmp_path, f"[[at]]\nseconds = 0\n{step}\n"))
    with pytest.raises(ScenarioError, match=said):
        check_scenario(steps, {"printer": VirtualPrinter().verbs})


def test_a_verb_that_fails_ends_the_story_with_its_line(tmp_path: Path) -> None:
    steps = load_scenario(
        write(tmp_path, '[[at]]\nseconds = 3\ndevice = "ups"\nverb = "discharge"\nargs = {minutes = 0}\n')
    )

    async def story() -> None:
        now = asyncio.get_running_loop().time
        with pytest.raises(ScenarioError, match=r"story\.toml:1: ups discharge: a battery lasts more than 0 minutes"):
            await play(steps, {"ups": VirtualMegatecUps(now).verbs})
        assert now() == pytest.approx(3)

    virtual_time.run(story())

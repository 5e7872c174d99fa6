"""The page in a browser: it loads in silence, filters, follows keys and links, and runs nothing that a model wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes.chromium import Page
from fakes.synthetic import write_lines, write_run
from madrigal.commands.report import write_report

HOSTILE = (
    "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 2'><svg onload='window.hit = 3'>"
    "\u202e\x1b[2J{{script}}"
)


@pytest.fixture(scope="module")
def page(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([whole], tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def tab(browser: Page, page: Path) -> Page:
    browser.screen(1280, 900)
    browser.errors.clear()
    browser.open(page)
    return browser


def title(tab: Page) -> str:
    return str(tab.ask("document.querySelector('#episode h3').textContent"))


def count(tab: Page) -> str:
    return str(tab.ask("document.getElementById('count').textContent"))


def choose(tab: Page, name: str, value: str) -> None:
    """Fills a field of the filter as a person would, and waits for the list."""
    field = f"document.getElementById('filters').elements[{json.dumps(name)}]"
    tab.ask(f"{field}.value = {json.dumps(value)}; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")
    tab.ask("new Promise((go) => setTimeout(go, 200))")  # typing is waited for: 120 ms


def test_the_page_loads_without_a_complaint(tab: Page) -> None:
    assert tab.errors == []
    assert count(tab) == "132 of 132" and title(tab) == "test/0"
    assert tab.ask("document.getElementById('failure').hidden")


def test_filters_narrow_the_list(tab: Page) -> None:
    choose(tab, "kind", "training")
    assert count(tab) == "120 of 132" and title(tab).startswith("train/")
    choose(tab, "firstStep", "50")
    assert count(tab) == "20 of 132"
    choose(tab, "least", "4")
    rewards = tab.ask("[...document.querySelectorAll('.row .number')].map((cell) => Number(cell.textContent))")
    assert rewards and all(reward >= 4 for reward in rewards)
    tab.ask("document.querySelector('#filters button[type=reset]').click()")
    tab.wait("document.getElementById('count').textContent === '132 of 132'")


def test_keys_walk_through_the_list(tab: Page) -> None:
    for key in "jjk":
        tab.press(key)
    assert title(tab) == "test/1"
    assert tab.ask("document.querySelector('[aria-selected=true]').id") == "row-1"
    tab.ask("document.getElementById('list').focus()")
    tab.press("ArrowDown")
    assert title(tab) == "test/2"
    tab.press("End")
    assert tab.ask("document.getElementById('list').getAttribute('aria-activedescendant')") == "row-131"


def test_links_lead_to_a_line_of_the_file(browser: Page, page: Path) -> None:
    browser.open(page, "#episode=70")
    line = browser.ask("document.querySelector('.head p').textContent")
    assert "line 70 of episodes.jsonl" in line
    browser.press("j")
    assert browser.ask("location.hash") == "#episode=71"


def test_tokens_are_shaded_by_chance_and_by_advantage(tab: Page) -> None:
    choose(tab, "kind", "training")
    shades = tab.ask("[...document.querySelectorAll('.token')].map((token) => token.className)")
    assert len(set(shades)) > 3 and all("chance-" in shade for shade in shades)
    tab.ask("document.querySelector('#shading input[value=credit]').click()")
    advantage = float(
        str(tab.ask("document.querySelector('.turn header').textContent")).split("advantage ")[1].split()[0]
    )
    shades = tab.ask("[...document.querySelectorAll('.token')].map((token) => token.className)")
    assert all(("up-" if advantage > 0 else "down-") in shade for shade in shades)
    assert tab.ask("document.querySelector('.answer').textContent").startswith(
        str(tab.ask("document.querySelector('.token').textContent"))
    )


def test_a_run_without_transcripts_says_so(browser: Page, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=3)
    (run / "episodes.jsonl").write_text("")
    browser.errors.clear()
    browser.open(write_report([run]))
    assert browser.ask("document.getElementById('episode').textContent") == "No transcripts are recorded."
    assert browser.errors == []


def test_nothing_that_a_model_wrote_runs(browser: Page, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=2, examples=1, recipe=HOSTILE, words=4)
    records = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    for record in records:
        record |= {"example": HOSTILE, "ending": HOSTILE, "details": {HOSTILE: HOSTILE}, "metrics": {HOSTILE: 1.0}}
        record["metrics"][f"scheme/{HOSTILE}"] = 1.0
        for turn in record["turns"]:
            turn |= {"text": HOSTILE, "agent": HOSTILE, "pieces": [len(HOSTILE)], "logprobs": [-1.0]}
            turn["prompt"] = [{"role": HOSTILE, "content": HOSTILE}]
    write_lines(run / "episodes.jsonl", records)
    browser.errors.clear()
    browser.open(write_report([run]))
    browser.press("p")
    for key in "jj":
        browser.press(key)
    assert browser.ask("window.hit") is None
    assert browser.ask("document.querySelectorAll('#transcripts img, #transcripts script, #episode svg').length") == 0
    shown = browser.ask("document.querySelector('.answer').textContent")
    assert shown == HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\u001b")
    assert browser.errors == []


def test_even_markup_that_got_in_could_not_run(tab: Page) -> None:
    """The content policy alone: as if something had been inserted as HTML."""
    tab.ask("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 1\">')")
    tab.ask("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit = 2'}))")
    tab.ask("new Promise((go) => setTimeout(go, 100))")
    assert tab.ask("window.hit") is None
    assert any("Content Security Policy" in error for error in tab.errors)


def test_the_theme_follows_the_system_until_it_is_chosen(tab: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    line = "getComputedStyle(document.querySelector('#curves figure > svg path[stroke]')).stroke"
    light = tab.ask(ground), tab.ask(line)
    tab.screen(1280, 900, dark=True)
    dark = tab.ask(ground), tab.ask(line)
    assert light[0] != dark[0] and light[1] != dark[1]
    tab.ask("document.getElementById('theme').click()")
    assert tab.ask("document.getElementById('theme').textContent") == "Theme: light"
    assert (tab.ask(ground), tab.ask(line)) == light
    tab.ask("document.getElementById('theme').click(); document.getElementById('theme').click()")
    assert tab.ask("document.getElementById('theme').textContent") == "Theme: automatic"


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_screen(tab: Page, width: int) -> None:
    tab.screen(width, 800)
    assert tab.ask("document.documentElement.scrollWidth") <= width

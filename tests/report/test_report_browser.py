"""The page in a browser: it loads in silence, filters, follows keys and links, and runs nothing that a model wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chromium import Page
from synthetic import AGENTS, write_run

from madrigal.commands.report import write_report

PICTURES = Path(__file__).parents[2] / ".artefacts" / "report"
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


def test_only_the_rows_in_view_exist(tab: Page) -> None:
    assert 5 < tab.ask("document.querySelectorAll('.row').length") < 40
    tab.ask("document.getElementById('list').scrollTop = 1e6")
    tab.wait("document.querySelector('.row:last-child').getAttribute('aria-posinset') === '132'")


def test_a_held_out_example_stands_before_and_after_side_by_side(tab: Page) -> None:
    heads = tab.ask("[...document.querySelectorAll('.head h4')].map((head) => head.textContent)")
    assert heads == ["before training", "after training"]
    left, right = tab.ask("[...document.querySelectorAll('.turn')].slice(0, 2).map((t) => t.getBoundingClientRect().x)")
    assert left < right
    assert tab.ask("document.querySelectorAll('.prompt').length") == len(AGENTS)  # shown once for both


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


def test_filters_know_schemes_agents_and_words(tab: Page, whole: Path) -> None:
    episodes = [json.loads(line) for line in (whole / "episodes.jsonl").read_text().splitlines()]
    played = [episode for episode in episodes if "evaluation" not in episode]
    choose(tab, "kind", "training")
    choose(tab, "scheme", "coordinator")
    assert count(tab) == f"{sum(e['metrics']['scheme/coordinator'] > 0 for e in played)} of 132"
    choose(tab, "scheme", "")
    choose(tab, "agent", "main")
    choose(tab, "text", "landlord")
    found = sum("landlord" in e["turns"][1]["text"] + e["turns"][1]["prompt"][0]["content"] for e in played)
    assert count(tab) == f"{found} of 132"
    assert tab.ask("[...document.querySelectorAll('.agent')].every((name) => name.textContent === 'main')")
    assert tab.ask("CSS.highlights.get('found').size") >= 1


def test_orders_put_the_largest_first(tab: Page) -> None:
    tab.ask("document.getElementById('filters').elements.order.value = 'highest'")
    choose(tab, "kind", "training")
    rewards = tab.ask("[...document.querySelectorAll('.row .number')].map((cell) => Number(cell.textContent))")
    assert rewards == sorted(rewards, reverse=True)


def test_a_filter_that_nothing_answers_says_so(tab: Page) -> None:
    choose(tab, "text", "no such words")
    assert count(tab) == "0 of 132"
    assert tab.ask("document.getElementById('episode').textContent") == "No transcript answers this filter."


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


def test_the_slash_goes_to_the_search_and_escape_back(tab: Page) -> None:
    tab.press("/")
    assert tab.ask("document.activeElement.id") == "search"
    tab.press("j")
    assert tab.ask("document.activeElement.value") == "j" and title(tab) == "test/0"
    tab.press("Escape")
    assert tab.ask("document.activeElement.id") == "list"


def test_a_key_opens_all_prompts_and_they_stay_open(tab: Page) -> None:
    tab.press("p")
    assert tab.ask("[...document.querySelectorAll('.prompt')].every((part) => part.open)")
    tab.press("j")
    assert tab.ask("[...document.querySelectorAll('.prompt')].every((part) => part.open)")


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


def test_a_token_tells_its_probability(tab: Page) -> None:
    tab.ask("document.querySelector('.token').click()")
    said = tab.ask("document.getElementById('readout').textContent")
    assert "probability" in said and "nats" in said


def test_a_run_without_pieces_is_shown_without_shades(browser: Page, tmp_path: Path) -> None:
    browser.errors.clear()
    browser.open(write_report([write_run(tmp_path / "run", steps=3, pieces=False)]))
    assert browser.ask("document.querySelectorAll('.token').length") == 0
    assert browser.ask("document.querySelector('.answer').textContent.length") > 20
    assert browser.errors == []


def test_a_run_without_transcripts_says_so(browser: Page, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=3)
    (run / "episodes.jsonl").write_text("")
    browser.errors.clear()
    browser.open(write_report([run]))
    assert browser.ask("document.getElementById('episode').textContent") == "No transcripts are recorded."
    assert browser.errors == []


def test_several_runs_can_be_told_apart(browser: Page, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"seed{seed}", steps=3, seed=seed, examples=2) for seed in (0, 1)]
    browser.open(write_report(runs), "#episode=seed1:4")
    assert "run seed1" in browser.ask("document.querySelector('#episode .said').textContent")
    assert not browser.ask("document.querySelector('[name=run]').closest('label').hidden")


def test_nothing_that_a_model_wrote_runs(browser: Page, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=2, examples=1, recipe=HOSTILE, words=4)
    records = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    for record in records:
        record |= {"example": HOSTILE, "ending": HOSTILE, "details": {HOSTILE: HOSTILE}, "metrics": {HOSTILE: 1.0}}
        record["metrics"][f"scheme/{HOSTILE}"] = 1.0
        for turn in record["turns"]:
            turn |= {"text": HOSTILE, "agent": HOSTILE, "pieces": [len(HOSTILE)], "logprobs": [-1.0]}
            turn["prompt"] = [{"role": HOSTILE, "content": HOSTILE}]
    (run / "episodes.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
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


@pytest.mark.parametrize(
    ("name", "width", "dark"), [("light", 1280, False), ("dark", 1280, True), ("phone", 360, False)]
)
def test_pictures_are_taken_for_people(tab: Page, name: str, width: int, dark: bool) -> None:
    """What a person should look at after a change: .artefacts/report/*.png."""
    tab.screen(width, 900, dark=dark)
    tab.ask("new Promise((go) => setTimeout(go, 300))")
    tab.screen(width, min(9000, int(tab.ask("document.documentElement.scrollHeight"))), dark=dark)
    tab.ask("new Promise((go) => setTimeout(go, 300))")
    tab.screenshot(PICTURES / f"{name}.png")
    assert (PICTURES / f"{name}.png").stat().st_size > 20_000

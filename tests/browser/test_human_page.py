"""human.py's two pages in a browser: answers to be rated, and dialogues side by side."""

from __future__ import annotations

import json

import pytest

from malmat.files import write_json
from tests.browser.pages import DESK, PHONE, assert_usable, focus_by_tab, opened
from tests.conftest import serving
from tests.test_human import MODELS, TERMS, answers_of, command, ratings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Answers, terms, and two sets of dialogues that share two terms."""
    folder = tmp_path_factory.mktemp("human")
    (folder / "terms.csv").write_text(TERMS, encoding="utf-8")
    for model in MODELS:
        name = f"understand/infer_results/{model}_understand_inference_results.json"
        write_json(folder / "results" / name, answers_of("understand", model))
    for name in ("ours", "theirs"):
        said = [{"q": f"뭐 해? {name} <b>", "a": f"갓생 살지 {'길게 ' * n}"} for n in range(30)]
        rows = [{"title": t, "description": "뜻", "conversations": said} for t in ("갓생", "텅장")]
        write_json(folder / f"{name}.json", rows)
    return folder


@pytest.fixture(scope="module")
def answers_page(browser, folder):
    words = command(folder / "results", " ".join(MODELS), "understand", "--rater", "지민")
    with serving(words) as (url, _):
        yield url


@pytest.fixture(scope="module")
def pairs_page(browser, folder):
    sets = [folder / "ours.json", folder / "theirs.json"]
    with serving(command(folder / "results", "--prefer", *sets, "--rater", "지민")) as (url, _):
        yield url


def see(page, rated: int) -> None:
    """Wait until the page says how many are rated."""
    page.get_by_text(f"개 중 {rated}개를 평가했습니다").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["answers", "pairs"])
def test_it_is_usable_by_all(browser, axe, request, kind, scheme):
    url = request.getfixturevalue(f"{kind}_page")
    with opened(browser, url, scheme, PHONE) as page:
        page.wait_for_selector(".chat .answer")
        assert page.evaluate("document.documentElement.lang") == "ko"
        assert_usable(page, axe)
        page.set_viewport_size({"width": DESK, "height": 844})
        assert_usable(page, axe)


def test_answers_are_rated_by_keys_by_tab_and_by_clicks(browser, folder, answers_page):
    with opened(browser, answers_page) as page:
        see(page, 0)
        page.keyboard.press("4")
        see(page, 1)
        page.keyboard.press("0")
        see(page, 2)
        focus_by_tab(page, "#rate-5")
        page.keyboard.press("Enter")
        see(page, 3)
        page.click("#rate-1")
        see(page, 4)
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector("#rate-1.chosen")
    given = [row["rating"] for row in ratings(folder / "results", "understand", "지민")]
    assert given == [4, None, 5, 1]


def test_pairs_are_compared_by_keys_and_by_clicks(browser, folder, pairs_page):
    with opened(browser, pairs_page, width=PHONE) as page:
        see(page, 0)
        assert "사람이 친 것" in page.inner_text(".ask")
        left, right = (side.bounding_box() for side in page.query_selector_all(".sides section"))
        assert left["y"] == right["y"], "side by side on a phone, too"
        assert left["x"] + left["width"] <= right["x"]
        shown = page.inner_text(".sides")
        assert "<b>" in shown, "text is shown as text"
        page.keyboard.press("1")
        see(page, 1)
        assert "맞게 썼나요" in page.inner_text(".ask")
        assert page.inner_text(".sides") == shown, "two questions a pair"
        focus_by_tab(page, "#rate-3")
        page.keyboard.press("Enter")
        see(page, 2)
        page.click("#rate-2")
        see(page, 3)
        page.keyboard.press("0")
        page.get_by_text("모두 마쳤습니다").wait_for()
        for name in ("ours.json", "theirs.json"):
            assert name not in page.content()
    rows = ratings(folder / "results", "prefer", "지민")
    assert [row["rating"] for row in rows] == ["left", "same", "right", None]
    assert all(row["left"] in row["dialogues"] for row in rows)
    path = folder / "results/prefer/human_results/지민_prefer_ratings.jsonl"
    assert json.loads(path.read_text("utf-8").splitlines()[0])["time"]

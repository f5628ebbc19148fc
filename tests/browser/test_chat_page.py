"""chat.py --web in a browser, with a fake server as its model."""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.browser.pages import DESK, PHONE, assert_usable, focus_by_tab, opened
from tests.conftest import ROOT, serving
from tests.fake_llm import FakeLLM
from tests.test_human import TERMS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chat(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    (folder / "terms.csv").write_text(TERMS, encoding="utf-8")
    with FakeLLM(lambda prompt, body: f"갓생 살자 <b> {len(body['messages'])}") as server:
        words = ["fake-model", "--type", "api", "--base_url", f"{server.url}/v1", "--web"]
        command = [sys.executable, str(ROOT / "src/eval/chat.py"), *words]
        command += ["--terms", str(folder / "terms.csv")]
        environment = os.environ | {"OPENAI_API_KEY": "key", "PYTHONPATH": str(ROOT / "src")}
        with serving(command, env=environment) as (url, _):
            yield url


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_usable_by_all(browser, axe, chat, scheme):
    with opened(browser, chat, scheme, PHONE) as page:
        page.wait_for_selector(".hello")
        assert page.evaluate("document.documentElement.lang") == "ko"
        assert_usable(page, axe)
        page.fill("#message textarea", "안녕, 갓생")
        page.click("#send button, button#send")
        page.wait_for_selector(".bubble .slang")
        page.get_by_role("button", name="설정").click()
        page.wait_for_selector("input[type=range]")
        assert_usable(page, axe)
        page.set_viewport_size({"width": DESK, "height": 844})
        assert_usable(page, axe)


def test_a_turn_by_keyboard_and_one_by_clicking(browser, chat):
    with opened(browser, chat) as page:
        page.wait_for_selector(".hello")
        focus_by_tab(page, "#message textarea")
        page.keyboard.type("뭐 해?")
        page.keyboard.press("Enter")
        page.get_by_text("갓생 살자 <b> 1").wait_for()
        focus_by_tab(page, ".bubble .slang")
        page.fill("#message textarea", "그렇구나")
        page.click("#send button, button#send")
        page.get_by_text("갓생 살자 <b> 3").wait_for()
        assert page.input_value("#message textarea") == ""


def test_two_models_side_by_side_the_meaning_on_hover_and_the_saved_file(
    browser, model_folder, tmp_path
):
    (tmp_path / "terms.csv").write_text(TERMS, encoding="utf-8")
    with FakeLLM(lambda prompt, body: "갓생 살자") as server:
        words = ["fake-model", "--type", "api", "--base_url", f"{server.url}/v1", "--web"]
        words += ["--compare", str(model_folder), "--terms", str(tmp_path / "terms.csv")]
        words += ["--seed", "12345", "--max_new_tokens", "5"]  # beyond what the sliders show
        command = [sys.executable, str(ROOT / "src/eval/chat.py"), *words]
        environment = os.environ | {"OPENAI_API_KEY": "key", "PYTHONPATH": str(ROOT / "src")}
        with serving(command, env=environment) as (url, _), opened(browser, url) as page:
            page.wait_for_selector(".hello")
            page.fill("#message textarea", "뭐 해?")
            page.click("#send button, button#send")
            page.get_by_text("갓생 살자").wait_for()
            names = page.locator(".bubble .name, .name").all_inner_texts()
            assert names == [model_folder.name, "fake-model"]

            meaning = "element => getComputedStyle(element, '::after').content"
            term = page.locator(".bubble .slang")
            assert term.evaluate(meaning) == "none"
            term.hover()
            assert "갓생: " in term.evaluate(meaning)

            page.wait_for_selector("#save:not([disabled]), #save a[href]")
            with page.expect_download() as saved:
                page.click("#save")
            found = json.loads(saved.value.path().read_text("utf-8"))
            assert [model["name"] for model in found["models"]] == names
            [turn] = found["turns"]
            assert turn["sampling"]["seed"] == 12345
            assert turn["answers"]["fake-model"]["text"] == "갓생 살자"

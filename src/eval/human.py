"""Rate answers by hand: several models' answers, mixed and without names, one at a time.

    python src/eval/human.py "embedded kanana" understand --rater 지민
    python src/eval/human.py "embedded kanana" usage --rater jimin --limit 50
    python src/eval/human.py --summary

Reads   results/<task>/infer_results/<model>_<task>_inference_results.json (only the answers
        whose status is ok), the term list (--terms), prompt.py (the judge's grades, which
        are the rater's too).
Writes  results/<task>/human_results/<rater>_<task>_ratings.jsonl: a line a rating, as it is
        given. Stopped at any point, the same command goes on where the rater was; of
        several ratings of one answer the last holds.

--summary reads the ratings of all raters and the judges' scores, and writes
results/<task>/human_results/summary.json: each model's mean, how far the raters agree with
one another, and how far each judge agrees with them.

The page is served on this machine only (--host 0.0.0.0 opens it to the network, where
anyone who knows the address can rate). Nothing is sent anywhere.
"""

from __future__ import annotations

import datetime
import html
import os
import re
import threading
import unicodedata
from pathlib import Path

import score
from malmat.cli import parser, positive, relative, run, show_settings
from malmat.errors import InputError
from malmat.evaluate import ratings
from malmat.evaluate.judges import Candidates, listing
from malmat.evaluate.results import read_answers
from malmat.files import digest, write_json
from malmat.formats import read_terms
from malmat.journal import Journal, key_of
from malmat.prompts import load_prompts
from malmat.text.korean import normalize

HERE = Path(__file__).parent
TASKS = ("understand", "usage")
RATES = {
    "understand": {
        1: "1\n전혀 모름",
        2: "2\n거의 모름",
        3: "3\n대체로 맞음",
        4: "4\n거의 맞음",
        5: "5\n딱 맞음",
    },
    "usage": {True: "네, 쓰였어요", False: "아니요"},
}
ASK = {
    "understand": "신조어의 뜻을 얼마나 잘 알고 한 답변인가요?",
    "usage": "이 답변에 신조어가 뜻에 맞게 쓰였나요?",
}
USAGE_RULES = """\
- 목록의 신조어가 하나라도 뜻에 맞게 쓰였으면 '네'를 고릅니다. 활용형이나 띄어쓰기, 표기가 \
조금 다른 것도 괜찮습니다.
- 글자는 같아도 일상어로 쓰였거나 뜻이 문맥에 맞지 않으면 '아니요'를 고릅니다."""
HINT = "키보드 숫자 1~{}로 고를 수 있습니다. 0은 '모르겠어요', ←와 →는 이전과 다음입니다."
DONE = '<div class="done">모두 마쳤습니다. 고맙습니다!<br>이제 창을 닫으셔도 됩니다.</div>'


def arguments():
    options = parser(__doc__)
    options.add_argument("models", nargs="?", help="names in results, in one pair of quotes")
    options.add_argument("task", nargs="?", choices=TASKS)
    options.add_argument("--rater", help="who rates (the file is named after it)")
    options.add_argument("--summary", action="store_true", help="what the ratings say so far")
    options.add_argument("--limit", type=positive, help="only N questions, the same for everyone")
    options.add_argument("--seed", type=int, default=42, help="of the order of the answers")
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument("--terms", default=str(HERE.parent / "data/terms.csv"))
    options.add_argument("--questions", default=str(HERE / "understand_questions.json"))
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=positive, help="default: the first free one from 7860")
    return options.parse_args()


def main() -> None:
    args = arguments()
    if args.summary:
        summary(args)
        return
    for name in ("models", "task", "rater"):
        if not getattr(args, name):
            raise InputError(
                "missing", field=name, fix='As in: human.py "model-a model-b" usage --rater NAME'
            )
    terms, prompts = read_terms(args.terms), load_prompts()
    drawn = read_items(args, terms)
    items = [item for item in drawn if item["status"] == "ok"]
    if not items:
        raise InputError("no answer whose status is ok", field="models")
    path = ratings_path(args)
    show_settings("human", {**vars(args), "ratings": relative(path)})
    with Journal(path) as journal:
        check_rater(journal, args.rater, path)
        failed = [item for item in drawn if item["status"] != "ok"]
        journal.extend(
            record_of(args, item) | {"rating": None, "status": item["status"]}
            for item in failed
            if journal.get(item["key"]) is None
        )
        done = sum(journal.get(item["key"]) is not None for item in items)
        print(f"plan: {len(items)} answers of {len(args.models.split())} models, {done} rated")
        serve(args, page(args, items, journal, terms, prompts))
    print(f"ratings are in {relative(path)}")


# ------------------------------------------------------------------------------- answers


def read_items(args, terms: list[dict]) -> list[dict]:
    """What was drawn, in this rater's own order: answers to be rated, and failed ones."""
    items = []
    for model in args.models.split():
        path = answers_path(args, args.task, model)
        answers = [
            {**row, "answer": normalize(row.get("answer") or "")} for row in read_answers(path)
        ]
        if args.task == "understand":
            answers = score.with_terms(answers, terms, path, args)
        for row in answers:
            key = key_of(task=args.task, model=model, id=row["id"], answer=row["answer"])
            items.append({**row, "model": model, "key": key})
    if args.limit:
        # Drawn by id, not cut from the file's head: raters and models share the questions,
        # whichever of their answers failed.
        drawn = sorted({item["id"] for item in items}, key=lambda i: digest([args.seed, i]))
        items = [item for item in items if item["id"] in set(drawn[: args.limit])]
    return sorted(items, key=lambda item: digest([args.seed, args.rater, item["key"]]))


def record_of(args, item: dict) -> dict:
    """What a line of the ratings' file says of the answer."""
    kept = {name: item.get(name) for name in ("key", "id", "model", "title")}
    return {**kept, "task": args.task, "rater": args.rater, "answer": digest(item["answer"])}


def answers_path(args, task: str, model: str) -> str:
    return f"{args.results_dir}/{task}/infer_results/{model}_{task}_inference_results.json"


def ratings_path(args) -> Path:
    name = unicodedata.normalize("NFC", args.rater)
    name = re.sub(r"[^\w.-]+", "-", name).strip(".-")[:40]
    if not name:
        raise InputError("no letter or digit in the name", field="rater")
    folder = Path(args.results_dir) / args.task / "human_results"
    return folder / f"{name}_{args.task}_ratings.jsonl"


def check_rater(journal: Journal, rater: str, path: Path) -> None:
    for key in journal:
        if (other := journal.get(key).get("rater")) != rater:
            raise InputError(
                f"holds the ratings of '{other}'",
                path=path,
                field="rater",
                fix="Take another name.",
            )


# ---------------------------------------------------------------------------------- page


def page(args, items: list[dict], journal: Journal, terms: list[dict], prompts: dict):
    """The page as Gradio blocks; the place in ``items`` is each visitor's own."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    rates, lock = RATES[args.task], threading.Lock()
    candidates = Candidates(terms) if args.task == "usage" else None

    def meanings(item: dict) -> str:
        """The listed terms that may stand in the answer, as a usage judge is given them."""
        if candidates is None:
            return ""
        lines = html.escape(listing(candidates.of(item["answer"]))).replace("\n", "<br>")
        return f'<div class="term">답변에 쓰였을 수 있는 신조어<p>{lines}</p></div>'

    def first_open() -> int:
        open_ones = (n for n, item in enumerate(items) if journal.get(item["key"]) is None)
        return next(open_ones, len(items))

    def view(place: int) -> list:
        over = place >= len(items)
        record = None if over else journal.get(items[place]["key"])
        rated = sum(journal.get(item["key"]) is not None for item in items)
        chosen = [record is not None and record["rating"] == value for value in (*rates, None)]
        return [
            place,
            progress(rated, len(items)),
            DONE if over else card(items[place]) + meanings(items[place]),
            *(
                gr.Button(interactive=not over, elem_classes=["chosen"] if on else [])
                for on in chosen
            ),
            gr.Button(interactive=place > 0),
            gr.Button(interactive=record is not None),
        ]

    def rate(value: int | bool | None):
        def keep(place: int) -> list:
            if place < len(items):
                now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                more = {"rating": value, "time": now}
                with lock:
                    journal.append(record_of(args, items[place]) | more)
            return view(min(place + 1, len(items)))

        return keep

    with gr.Blocks(title="답변 평가", analytics_enabled=False) as blocks:
        place = gr.State(0)
        bar = gr.HTML()
        shown = gr.HTML()
        gr.HTML(f'<div class="ask">{ASK[args.task]}</div>')
        with gr.Row(elem_classes=["rates", "grades" if len(rates) > 2 else "pair"]):
            buttons = [
                gr.Button(label, elem_id=f"rate-{number}")
                for number, label in enumerate(rates.values(), 1)
            ]
        with gr.Row(elem_classes="rates"):
            back = gr.Button("← 이전", size="sm", elem_id="back")
            buttons.append(gr.Button("모르겠어요", size="sm", elem_id="rate-0"))
            forth = gr.Button("다음 →", size="sm", elem_id="forth")
        with gr.Accordion("평가 기준"):
            gr.Markdown(f"{rules(args.task, prompts)}\n\n{HINT.format(len(rates))}")
        if args.task == "usage":
            with gr.Accordion("신조어 목록", open=False):
                gr.HTML(" · ".join(html.escape(term["title"]) for term in terms))
        outputs = [place, bar, shown, *buttons, back, forth]
        blocks.load(lambda: view(first_open()), None, outputs, api_name="start")
        for value, button in zip((*rates, None), buttons, strict=True):
            name = "skip" if value is None else f"rate_{value}".lower()
            button.click(rate(value), place, outputs, api_name=name, show_progress="hidden")
        back.click(
            lambda n: view(max(n - 1, 0)), place, outputs, api_name="back", show_progress="hidden"
        )
        forth.click(
            lambda n: view(min(n + 1, len(items))),
            place,
            outputs,
            api_name="forth",
            show_progress="hidden",
        )
    return blocks


def progress(rated: int, total: int) -> str:
    percent = 100 * rated / total
    return (
        f'<div class="progress">{total}개 중 {rated}개를 평가했습니다'
        f'<div class="bar"><i style="width:{percent:.1f}%"></i></div></div>'
    )


def card(item: dict) -> str:
    text = {name: html.escape(str(item.get(name) or "")) for name in ("title", "content")}
    term = f'<div class="term"><b>{text["title"]}</b><p>{text["content"]}</p></div>'
    return (
        f"{term if item.get('content') else ''}"
        f'<div class="chat"><div class="question">{html.escape(item["question"].strip())}</div>'
        f'<div class="answer">{html.escape(item["answer"].strip())}</div></div>'
    )


def rules(task: str, prompts: dict) -> str:
    if task == "usage":
        return USAGE_RULES
    grades = re.findall(r"^[1-5]: .+$", prompts["JUDGE_UNDERSTAND"], re.MULTILINE)
    return "\n".join(f"- **{line[0]}점**{line[1:]}" for line in grades) + (
        "\n\n답변의 길이나 공손함은 점수에 넣지 않습니다."
    )


# 1–5 and 0 press the rating buttons, the arrows turn the pages.
KEYS = """() => document.addEventListener("keydown", (event) => {
  const id = {ArrowLeft: "back", ArrowRight: "forth"}[event.key] || "rate-" + event.key;
  if (!event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat)
    document.getElementById(id)?.click();
})"""


def serve(args, blocks) -> None:
    import gradio as gr

    # A theme's own fonts would be fetched from the network by the rater's browser.
    fonts = ["Pretendard", "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "sans-serif"]
    try:
        blocks.launch(
            server_name=args.host,
            server_port=args.port,
            share=False,
            theme=gr.themes.Soft(primary_hue="amber", font=fonts, font_mono=["monospace"]),
            css_paths=[HERE / "human.css"],
            js=KEYS,
            footer_links=[],
            ssr_mode=False,
            enable_monitoring=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise InputError(str(error).splitlines()[0], field="port") from None
    print(f"open {blocks.local_url} in a browser; Ctrl-C here when done", flush=True)
    blocks.block_thread()


# ------------------------------------------------------------------------------- summary


def summary(args) -> None:
    """Means, agreement between raters and with the judges, of each task that has ratings."""
    found = False
    for task in TASKS if args.task is None else (args.task,):
        folder = Path(args.results_dir) / task
        given = [
            record
            for path in sorted(folder.glob("human_results/*_ratings.jsonl"))
            for record in ratings.read_ratings(path, task)
            if args.models is None or record["model"] in args.models.split()
        ]
        if not given:
            continue
        found = True
        current = {
            (model, row["id"], digest(normalize(row.get("answer") or "")))
            for model in {record["model"] for record in given}
            for row in read_answers(answers_path(args, task, model))
        }
        fresh = [record for record in given if ratings.place_of(record) in current]
        result = ratings.summarize(task, fresh, ratings.read_scores(args.results_dir, task))
        if left := len(given) - len(fresh):
            print(f"{left} ratings left out: the model has been asked again and says otherwise now")
        show(result)
        output = folder / "human_results/summary.json"
        write_json(output, result)
        print(f"wrote {relative(output)}")
    if not found:
        raise InputError("no ratings in it", path=args.results_dir, field="results_dir")


def show(result: dict) -> None:
    from malmat.evaluate.agreement import text_of

    print(f"{result['task']}, rated by hand")
    for rater, part in result["raters"].items():
        print(f"  rater {rater}: {part['n_rated']} rated, {part['n_skipped']} skipped")
    for model, part in result["models"].items():
        print(f"  model {model}: {text_of(part)} ({part['n_scored']}/{part['n_total']} rated)")
    alpha = result["alpha"]
    print(
        f"  between raters: Krippendorff's alpha {text_of(alpha, 'alpha')} "
        f"({alpha['n_units']} answers rated twice or more)"
    )
    for pair in result["pairs"]:
        names = " and ".join(pair["raters"])
        print(f"  {names}: weighted kappa {text_of(pair, 'kappa')} ({pair['n_common']} answers)")
    for judge, part in result["judges"].items():
        print(
            f"  judge {judge}: weighted kappa {text_of(part, 'kappa')}, exact "
            f"{text_of(part['exact'])} ({part['n_scored']} answers)"
        )


if __name__ == "__main__":
    run(main)

"""Refine dialogues: nine steps, none of which loses a marked utterance, a number or a range.

    python src/dialogue_inference/refine.py --input train.json --output refined.json
    python src/dialogue_inference/refine.py --input a.json --output b.json --skip symbols merge
    python src/dialogue_inference/refine.py --input a.json --output b.json --report report.json

Reads   --input: the contest's file (a list of {id, input, output}).
Writes  --output: the same rows, of which only ``input.conversation`` differs: fewer utterances,
        tidied text, ``utterance_id`` as a list. --report: how many rows, utterances and characters
        each step changed, with examples, and the rows whose marked utterance a step would have
        emptied and left as it was.

The steps, in their order (``malmat.text.utterances``):
  spaces     line breaks and repeated spaces become one space
  yes        ㅇㅇ… becomes 응
  marks      runs of . and ? become at most three and two
  symbols    signs that say nothing are deleted; 7:30, 3~4시, 3/4, 3.5, 100%, OK. stay
  greetings  greetings are deleted where they are whole words or whole utterances
  names      name10 becomes 화자10
  jamo       words of jamo alone are deleted; ㄱ자로 stays
  wordless   utterances without a letter or digit are deleted
  merge      neighbouring utterances of one speaker become one, never across a marked one

They are repeated until none changes anything: refining a refined file changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from malmat.cli import parser, relative, run, show_settings, show_table
from malmat.contests.dialogues import Dialogue, read_dialogues, show_lost
from malmat.contests.faults import show_skipped
from malmat.errors import InputError
from malmat.files import write_json
from malmat.text.utterances import STEPS, Change, tidy
from task import CATEGORIES

EXAMPLES = 20


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", required=True)
    options.add_argument("--output", required=True)
    options.add_argument("--skip", nargs="+", choices=STEPS, default=[], metavar="STEP")
    options.add_argument("--report", help="a JSON file of what was changed")
    options.add_argument("--skip_bad", action="store_true", help="go on without faulty rows")
    return options.parse_args()


def main() -> int:
    args = arguments()
    written = [args.output, *([args.report] if args.report else [])]
    if len({Path(path).resolve() for path in (args.input, *written)}) <= len(written):
        fix = "Give each file its own name."
        raise InputError("is named twice", path=args.output, field="output", fix=fix)
    show_settings("refine", vars(args))
    dialogues, faults = read_dialogues(args.input, CATEGORIES, skip_bad=args.skip_bad)
    steps = [name for name in STEPS if name not in args.skip]
    rows, changes = [], {}
    for one in dialogues:
        conversation, changes[one.id] = tidy(one.conversation, one.reference_id, steps)
        rows.append({**one.raw, "input": {**one.raw["input"], "conversation": conversation}})
    report = {"settings": {"input": relative(args.input), "steps": steps}}
    report |= counts(dialogues, rows) | {"steps": by_step(changes, steps)}
    report["guarded"] = guarded(changes)
    write_json(args.output, rows)
    if args.report:
        write_json(args.report, report)
    show(report)
    show_lost(dialogues)
    for path in written:
        print(f"wrote {relative(path)}")
    return show_skipped(faults)


def counts(dialogues: list[Dialogue], rows: list[dict]) -> dict:
    """Rows, utterances, characters and marked utterances, before and after."""
    before = [one.conversation for one in dialogues]
    after = [row["input"]["conversation"] for row in rows]
    known = [{i for turn in turns for i in turn["utterance_id"]} for turns in after]
    lost = [
        {"id": one.id, "reference_id": reference}
        for one, ids in zip(dialogues, known, strict=True)
        for reference in one.reference_id
        if reference not in ids and reference not in one.lost
    ]
    return {
        "rows": len(rows),
        "rows_changed": sum(old != new for old, new in zip(before, after, strict=True)),
        "utterances": [sum(map(len, side)) for side in (before, after)],
        "characters": [
            sum(len(turn["utterance"]) for turns in side for turn in turns)
            for side in (before, after)
        ],
        "references": sum(len(one.reference_id) - len(one.lost) for one in dialogues),
        "references_lost": lost,
        "references_missing_in_input": {one.id: one.lost for one in dialogues if one.lost},
    }


def by_step(changes: dict[str, list[Change]], steps: list[str]) -> dict[str, dict]:
    """Step → how many rows, utterances and characters it changed, and its first examples."""
    found: dict[str, list[tuple[str, Change]]] = defaultdict(list)
    for row, some in changes.items():
        for change in some:
            if not change.guarded:
                found[change.step].append((row, change))
    return {
        step: {
            "rows": len({row for row, _ in found[step]}),
            "utterances": len(found[step]),
            "characters": sum(len(c.before) - len(c.after) for _, c in found[step]),
            "examples": [
                {"id": row, "utterance_id": c.ids, "before": c.before, "after": c.after}
                for row, c in found[step][:EXAMPLES]
            ],
        }
        for step in steps
    }


def guarded(changes: dict[str, list[Change]]) -> list[dict]:
    """The marked utterances that a step would have emptied."""
    return [
        {"id": row, "step": change.step, "utterance_id": change.ids, "utterance": change.before}
        for row, some in changes.items()
        for change in some
        if change.guarded
    ]


def show(report: dict) -> None:
    """Print the counts."""
    heads = ("step", "rows", "utterances", "characters fewer")
    names = ("rows", "utterances", "characters")
    steps = report["steps"].items()
    show_table([heads, *((step, *(str(done[n]) for n in names)) for step, done in steps)])
    for name in ("utterances", "characters"):
        before, after = report[name]
        print(f"{name}: {before:,} → {after:,}")
    print(f"rows changed: {report['rows_changed']} of {report['rows']}")
    print(f"marked utterances: {report['references']}, {len(report['references_lost'])} lost")
    if kept := report["guarded"]:
        print(f"left as they were, for a step would have emptied them: {len(kept)}")
        for one in kept:
            print(f"  {one['id']}: {one['utterance']!r} ({one['step']})")


if __name__ == "__main__":
    run(main)

"""Plots of a data set, panels side by side, in a Korean font that installs with a package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Panel = Callable[[Any], None]
"""Draws on matplotlib axes."""


def font_path() -> str:
    """The file of a Korean font: Nanum Gothic, which comes with koreanize-matplotlib."""
    from importlib.util import find_spec

    spec = find_spec("koreanize_matplotlib")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "fonts" / "NanumGothic.ttf")


def save_figure(path: str | Path, title: str, panels: Mapping[str, Panel]) -> None:
    """Write a PNG of panels side by side, each under its name, with a common title.

    Raises:
        ValueError: a letter of the figure is not in the font, and would be an empty box.
    """
    import warnings

    import matplotlib
    from matplotlib import font_manager

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    font_manager.fontManager.addfont(font_path())
    name = font_manager.FontProperties(fname=font_path()).get_name()
    with plt.rc_context({"font.family": name, "axes.unicode_minus": False}):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(5.5 * len(panels), 4), sharey=True, squeeze=False
        )
        for (heading, draw), ax in zip(panels.items(), axes[0], strict=True):
            draw(ax)
            ax.set_title(heading)
        figure.suptitle(title)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Glyph .* missing", category=UserWarning)
            try:
                figure.tight_layout()
                figure.savefig(path, dpi=110)
            except UserWarning as missing:
                raise ValueError(str(missing)) from None
            finally:
                plt.close(figure)


def bars(counts: Mapping[Any, float], label: str = "rows") -> Panel:
    """A bar for each value, with its number above it."""

    def draw(ax: Any) -> None:
        drawn = ax.bar([str(value) for value in counts], list(counts.values()), color="#4c78a8")
        ax.bar_label(drawn, fmt="%g", fontsize=8)
        ax.set_ylabel(label)

    return draw


def histogram(values: Sequence[float], label: str, of: str = "rows", bins: int = 30) -> Panel:
    """How many of what (``of``) fall into each of ``bins`` intervals; the median as a line."""

    def draw(ax: Any) -> None:
        ax.hist(values, bins=bins, color="#4c78a8")
        middle = sorted(values)[len(values) // 2]
        ax.axvline(middle, color="#e45756", label=f"median {middle:g}")
        ax.set_xlabel(label)
        ax.set_ylabel(of)
        ax.legend()

    return draw


def grouped_bars(table: Mapping[str, Mapping[Any, float]], label: str) -> Panel:
    """Bars of several series beside each other: series → value → height."""

    def draw(ax: Any) -> None:
        names = list(dict.fromkeys(str(value) for row in table.values() for value in row))
        width = 0.8 / len(table)
        for number, (series, row) in enumerate(table.items()):
            heights = {str(value): height for value, height in row.items()}
            places = [
                place + (number - (len(table) - 1) / 2) * width for place in range(len(names))
            ]
            ax.bar(places, [heights.get(name, 0) for name in names], width, label=series)
        ax.set_xticks(range(len(names)), names)
        ax.set_ylabel(label)
        ax.legend(fontsize=8, ncols=len(table), loc="upper center", bbox_to_anchor=(0.5, -0.08))

    return draw


def boxes(series: Mapping[str, Sequence[float]], label: str) -> Panel:
    """A box plot of each series."""

    def draw(ax: Any) -> None:
        ax.boxplot(list(series.values()), tick_labels=list(series), showmeans=True)
        ax.set_ylabel(label)

    return draw


def word_cloud(frequencies: Mapping[str, int], *, seed: int = 0) -> Panel:
    """Words in sizes by their frequency."""

    def draw(ax: Any) -> None:
        ax.axis("off")
        if not frequencies:
            ax.text(0.5, 0.5, "no words", ha="center")
            return
        from wordcloud import WordCloud

        cloud = WordCloud(
            font_path=font_path(),
            width=900,
            height=600,
            background_color="white",
            random_state=seed,
        )
        ax.imshow(cloud.generate_from_frequencies(dict(frequencies)), interpolation="bilinear")

    return draw


def nouns(texts: Iterable[str]) -> Counter[str]:
    """How often each noun of two syllables or more stands in the texts, by Kiwi's morphology."""
    from kiwipiepy import Kiwi

    kiwi = Kiwi(num_workers=1)
    return Counter(
        token.form
        for tokens in kiwi.tokenize(texts)
        for token in tokens
        if token.tag in ("NNG", "NNP") and len(token.form) > 1
    )

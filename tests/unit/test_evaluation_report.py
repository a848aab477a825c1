"""Figures, maps and the report of an evaluation: right, the same every time, and harmless."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot
import numpy as np
import pytest

from napari_leukocls.errors import ArgumentError
from napari_leukocls.evaluation import figures
from napari_leukocls.evaluation.embedding import embed, sample_rows, silhouette
from napari_leukocls.evaluation.metrics import classification_metrics
from napari_leukocls.evaluation.report import details_of, predictions_table, write_evaluation
from napari_leukocls.io.html import figure, limits, p_value, percent

CLASSES = ("neutrophil", "<b>odd</b>", "monocyte")


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def an_evaluation(n: int = 90) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Truth names (some of a class that the model does not know), probabilities at 2 and at 1, features."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, n)
    logits = rng.normal(0, 1, (n, 3))
    logits[np.arange(n), truth] += 2.5
    names = [CLASSES[place] for place in truth]
    names[:4] = ["blast"] * 4
    return names, softmax(logits / 2), softmax(logits), np.hstack([logits, rng.normal(0, 1, (n, 5))])


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_report_is_one_file_that_runs_nothing_and_shows_every_figure(tmp_path: Path) -> None:
    names, after, before, features = an_evaluation()
    details = details_of(names, CLASSES, after, before, features)
    table = predictions_table(
        [f"{k}.png" for k in range(90)], names, after, CLASSES, np.zeros(90, bool), np.zeros(90)
    )
    metrics = classification_metrics(names, after, CLASSES, np.zeros(90), np.zeros(90, bool), n_boot=20)
    metrics |= details.figures | {
        "model": "<script>alert(1)</script>",
        "skipped": ["a<i>.png"],
        "scale_notes": [],
    }
    paths = write_evaluation(tmp_path, table, metrics, details)
    page = paths["report.html"].read_text(encoding="utf-8")
    seen = _Tags()
    seen.feed(page)
    assert not {"script", "b", "i", "link", "iframe"} & set(seen.tags)
    assert seen.links and all(link.startswith("data:image/png;base64,") for link in seen.links)
    pngs = [name for name in paths if name.endswith(".png")]
    assert len(seen.links) == len(pngs) == 10
    assert {name.replace(".png", ".svg") for name in pngs} <= set(paths)
    for words in ("Macro F1", "blast", "isotonic regression", "miscalibration"):
        assert words in page
    assert not matplotlib.pyplot.get_fignums(), "nothing is left in matplotlib's global state"


def test_details_look_at_calibration_before_the_temperature() -> None:
    names, after, before, features = an_evaluation()
    found = details_of(names, CLASSES, after, before, features)
    assert len(found.truth) == 86, "crops of unknown classes have no part in it"
    assert found.figures["before_temperature"]["ece"] != found.figures["recalibration"]["as_is"]["ece"]
    assert [one.method for one in found.maps] == ["tsne", "pca"]
    assert set(found.maps[0].labels) == {*CLASSES, "blast"}
    few = details_of(names[:10], CLASSES, after[:10], before[:10], features[:10])
    assert few.maps == () and few.figures["recalibration"] is None


def test_an_evaluation_of_unknown_classes_alone_is_written(tmp_path: Path) -> None:
    table = predictions_table(
        ["a", "b"], ["blast"] * 2, np.full((2, 3), 1 / 3), CLASSES, np.ones(2, bool), np.ones(2)
    )
    metrics = classification_metrics(
        ["blast"] * 2, np.full((2, 3), 1 / 3), CLASSES, np.ones(2), np.ones(2, bool)
    )
    details = details_of(
        ["blast"] * 2, CLASSES, np.full((2, 3), 1 / 3), np.full((2, 3), 1 / 3), np.ones((2, 4))
    )
    page = write_evaluation(tmp_path, table, metrics, details)["report.html"].read_text(encoding="utf-8")
    assert "blast" in page and "100.0 %" in page


def test_a_map_is_that_of_scikit_learn_and_the_same_every_time() -> None:
    from sklearn.decomposition import PCA
    from sklearn.metrics import silhouette_score

    rng = np.random.default_rng(1)
    features = np.vstack([rng.normal(0, 1, (40, 6)), rng.normal(4, 1, (40, 6))])
    labels = np.repeat(["a", "b"], 40)
    pca = embed(features, labels, "pca")
    reference = PCA(2).fit(features)
    assert np.abs(pca.points) == pytest.approx(np.abs(reference.transform(features)), abs=1e-6)
    assert pca.explained == pytest.approx(tuple(reference.explained_variance_ratio_))
    assert pca.silhouette == pytest.approx(silhouette_score(pca.points, labels))
    tsne = embed(features, labels)
    assert tsne.silhouette > 0.4
    assert np.array_equal(tsne.points, embed(features, labels).points)
    assert embed(features[:5], labels[:5]).points.shape == (5, 2)
    assert np.isnan(silhouette(features, np.repeat("a", 80)))
    assert embed(features[:, :1], labels, "pca").points.shape == (80, 2)
    with pytest.raises(ArgumentError, match="four cells"):
        embed(features[:3], labels[:3])
    assert len(sample_rows(5000)) == 1000 and list(sample_rows(3)) == [0, 1, 2]


def test_curves_have_the_areas_of_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    names, probabilities, _, _ = an_evaluation()
    truth = np.array([CLASSES.index(name) for name in names[4:]])
    scores = probabilities[4:]
    legends = []
    for made in (figures.roc_figure, figures.precision_recall_figure):
        legend = made(scores, truth, CLASSES).axes[0].get_legend()
        legends.append([text.get_text() for text in legend.get_texts()])
    assert f"({roc_auc_score(truth == 2, scores[:, 2]):.4f})" in legends[0][2]
    assert f"({average_precision_score(truth == 2, scores[:, 2]):.4f})" in legends[1][2]
    one = figures.roc_figure(scores[:3], np.zeros(3, int), CLASSES)
    assert one.axes[0].get_legend() is None


def test_more_classes_than_colours_are_still_told_apart() -> None:
    rng = np.random.default_rng(2)
    classes = [f"class_{k}" for k in range(20)]
    made = figures.roc_figure(rng.dirichlet(np.ones(20), 200), rng.integers(0, 20, 200), classes)
    lines = made.axes[0].get_lines()[1:]
    assert (
        len(
            {
                (line.get_color(), str(line.get_linestyle()), str(line._unscaled_dash_pattern))
                for line in lines
            }
        )
        == 20
    )


def test_a_reliability_diagram_before_and_after() -> None:
    names, after, before, _ = an_evaluation()
    truth = np.array([CLASSES.index(name) for name in names[4:]])
    made = figures.reliability_figure(after[4:], truth, before[4:])
    assert len(made.axes) == 4
    assert "without temperature" in made.axes[0].get_title()
    svg = figures.rendered(made, "svg")
    assert svg == figures.rendered(figures.reliability_figure(after[4:], truth, before[4:]), "svg")
    assert not re.search(rb"<dc:date>", svg)
    empty = figures.reliability_figure(np.empty((0, 3)), np.empty(0, int))
    assert figures.rendered(empty, "png").startswith(b"\x89PNG")


def test_numbers_in_words() -> None:
    assert (figure(0.98765), figure(None), figure(float("nan")), figure(2903)) == (
        "0.9877",
        "–",
        "–",
        "2\u2009903",
    )
    assert (percent(0.031), percent(None)) == ("3.1 %", "–")
    assert (limits([0.1, 0.25]), limits([None, None]), limits(None)) == ("0.1 to 0.25", "", "")
    assert (p_value(0.0321), p_value(1e-9), p_value(None)) == ("0.032", "< 0.0001", "–")


def test_names_that_would_be_formulas_and_settings_of_the_users_change_nothing() -> None:
    names, after, before, features = an_evaluation()
    odd = ["$\\frac{", 'a, "b" = 1', "_hidden"]
    truth = np.array([CLASSES.index(name) for name in names[4:]])
    matrix = np.bincount(truth * 3 + after[4:].argmax(axis=1), minlength=9).reshape(3, 3)
    first = [figures.rendered(figures.confusion_figure(matrix, odd), "svg")]
    first.append(figures.rendered(figures.roc_figure(after[4:], truth, odd), "svg"))
    assert all(b"$\\frac{" in svg for svg in first) and b"hidden (" in first[1]
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "text.usetex": False}):
        assert figures.rendered(figures.confusion_figure(matrix, odd), "svg") == first[0]

"""Report pages show user text literally."""

from __future__ import annotations

import warnings
from html import escape
from typing import TYPE_CHECKING

import pytest

from kommuna.steps.report import plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TAGS = ["fees $5 and $10", r"$\frac{1}{", "^{2,}$", "<b>bold</b> & co", r"\textbf{x}", "a_b^c"]


@pytest.mark.parametrize("tag", TAGS)
def test_a_plot_shows_tags_that_look_like_formulas_or_markup_as_text(tag: str) -> None:
    def draw(axes: Axes) -> None:
        axes.barh([0], [1], label=tag)
        axes.set_yticks([0], [tag])
        axes.set_title(tag)
        axes.annotate(tag, (0.5, 0))
        axes.legend()

    assert str(plot(draw)).count(f">{escape(tag, quote=False)}</text>") == 4


@pytest.mark.parametrize("size", [(3.6, 2.6), (9.0, 3.5)])
def test_labels_of_any_length_leave_room_for_the_axes(size: tuple[float, float]) -> None:
    names = ["mortgage_words_with_a_very_long_name_indeed", "long " * 60]
    seen = []

    def draw(axes: Axes) -> None:
        axes.barh([0, 1], [1, 2])
        axes.set_yticks([0, 1], names)
        axes.set_xticks([0, 1], names, rotation=90)
        seen.append(axes)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot(draw, width=size[0], height=size[1])
    box = seen[0].get_window_extent().transformed(seen[0].figure.dpi_scale_trans.inverted())
    assert box.width > size[0] / 3
    assert box.height > size[1] / 3

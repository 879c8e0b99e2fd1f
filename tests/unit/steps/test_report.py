"""Pages: what people wrote stands there as they wrote it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import pytest

from kommuna.steps.report import plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TAGS = ["fees $5 and $10", r"$\frac{1}{", "^{2,}$", "<b>bold</b> & co", r"\textbf{x}", "a_b^c"]


@pytest.mark.parametrize("tag", TAGS)
def test_a_plot_takes_no_tag_for_a_formula_or_for_markup(tag: str) -> None:
    def draw(axes: Axes) -> None:
        axes.barh([0], [1], label=tag)
        axes.set_yticks([0], [tag])
        axes.set_title(tag)
        axes.annotate(tag, (0.5, 0))
        axes.legend()

    assert str(plot(draw)).count(f">{escape(tag, quote=False)}</text>") == 4

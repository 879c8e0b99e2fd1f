"""Every label model by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kommuna.errors import SpecError, nearest
from kommuna.spec import choices
from kommuna.spec.resources import memory_bytes
from kommuna.steps.labeling.models.base import BaseLabelModel
from kommuna.steps.labeling.models.dawid_skene import DawidSkene
from kommuna.steps.labeling.models.majority import Majority
from kommuna.steps.labeling.models.pooled.model import Kommuna
from kommuna.steps.labeling.models.snorkel.library import SnorkelModel
from kommuna.steps.labeling.models.snorkel.sparse import SnorkelFast
from kommuna.steps.labeling.models.weighted import Weighted
from kommuna.steps.labeling.votes.columns import is_whole


@dataclass(frozen=True)
class Settings:
    """The settings of label models; each model reads those that apply to it.

    Attributes:
        seed: seed of the model's random numbers.
        iterations: EM steps of `dawid_skene`.
        epochs: training epochs of `snorkel` and `snorkel_fast`.
        memory: memory limit of `snorkel`, such as `4Gi`.
    """

    seed: int = 0
    iterations: int = 50
    epochs: int = 500
    memory: str = "4Gi"

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            SpecError: one of them is out of its range; names it.
        """
        for name, minimum in (("iterations", 1), ("epochs", 1), ("seed", 0)):
            value = getattr(self, name)
            if not is_whole(value):
                raise SpecError(f"{name}={value!r} is not a whole number", fix=f"give {name} {minimum} or more")
            if value < minimum:
                raise SpecError(f"{name}={value}: at least {minimum} is needed", fix=f"give {name} {minimum} or more")
        try:
            memory_bytes(self.memory)
        except (TypeError, ValueError) as error:
            raise SpecError(f"memory={self.memory!r}: {error}", fix="give a size, such as '4Gi'") from None


MODELS: dict[choices.LabelModelName, Callable[[Settings], BaseLabelModel]] = {
    "kommuna": lambda settings: Kommuna(seed=settings.seed),
    "majority": lambda settings: Majority(),
    "weighted": lambda settings: Weighted(),
    "dawid_skene": lambda settings: DawidSkene(iterations=settings.iterations),
    "snorkel": lambda settings: SnorkelModel(epochs=settings.epochs, seed=settings.seed, memory=settings.memory),
    "snorkel_fast": lambda settings: SnorkelFast(epochs=settings.epochs, seed=settings.seed),
}


def model_named(name: choices.LabelModelName, settings: Settings) -> Callable[[], BaseLabelModel]:
    """Returns a function that makes unfitted label models.

    Args:
        name: the label model's name, a key of `MODELS`.
        settings: their settings.

    Raises:
        SpecError: no label model has the name.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise SpecError(
            f"there is no label model '{name}'{nearest(str(name), MODELS)}", fix=f"name one of {', '.join(MODELS)}"
        )
    return lambda: MODELS[name](settings)

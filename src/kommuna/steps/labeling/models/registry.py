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


@dataclass(frozen=True)
class Settings:
    """What label models can be told; each takes what it knows.

    Attributes:
        seed: of what is random in a model.
        iterations: EM steps of `dawid_skene`.
        epochs: training epochs of `snorkel` and `snorkel_fast`.
        memory: the most that `snorkel` may take.
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
        for name, least in (("iterations", 1), ("epochs", 1), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise SpecError(f"{name}={value}: at least {least} is needed", fix=f"give {name} {least} or more")
        try:
            memory_bytes(self.memory)
        except ValueError as error:
            raise SpecError(f"memory={self.memory!r}: {error}") from None


MODELS: dict[choices.LabelModel, Callable[[Settings], BaseLabelModel]] = {
    "kommuna": lambda told: Kommuna(seed=told.seed),
    "majority": lambda told: Majority(),
    "weighted": lambda told: Weighted(),
    "dawid_skene": lambda told: DawidSkene(iterations=told.iterations),
    "snorkel": lambda told: SnorkelModel(epochs=told.epochs, seed=told.seed, memory=told.memory),
    "snorkel_fast": lambda told: SnorkelFast(epochs=told.epochs, seed=told.seed),
}


def model_named(name: choices.LabelModel, told: Settings) -> Callable[[], BaseLabelModel]:
    """Makes unfitted models of a name.

    Raises:
        SpecError: no label model has the name.
    """
    if name not in MODELS:
        raise SpecError(
            f"there is no label model '{name}'{nearest(str(name), MODELS)}", fix=f"name one of {', '.join(MODELS)}"
        )
    return lambda: MODELS[name](told)

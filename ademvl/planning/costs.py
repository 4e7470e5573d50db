"""Chooses how the costs of a run's method are known: by its formula, or by measuring it."""

from collections.abc import Mapping

from ademvl.config.method import MethodSettings
from ademvl.planning.adem_formula import formula_of
from ademvl.planning.method_costs import MethodCosts
from ademvl.planning.shapes import LlmShape, VisionShape
from ademvl.planning.sizes import ModelSizes


def costs_of(sizes: ModelSizes) -> MethodCosts:
    """Return the costs of a method on models of these sizes."""
    return _costs(sizes.method, sizes.llm, sizes.vision, online=sizes.online)


def trained_parameters(
    settings: MethodSettings, *, llm: LlmShape, vision: VisionShape, online: bool
) -> Mapping[str, int]:
    """Count the trained parameters of each part.

    Args:
        llm: sizes of the language model.
        vision: sizes of the tower.
        online: with trained modules inside the tower, where the method has any.

    Raises:
        SettingsError: the settings do not fit the models.
    """
    return _costs(settings, llm, vision, online=online).trained()


def sizes_with(
    settings: MethodSettings, *, llm: LlmShape, vision: VisionShape, online: bool
) -> ModelSizes:
    """Return the sizes of a method on models, its trained parameters counted.

    Raises:
        SettingsError: the settings do not fit the models.
    """
    trained = trained_parameters(settings, llm=llm, vision=vision, online=online)
    return ModelSizes(llm, vision, settings, sum(trained.values()), online)


def _costs(
    settings: MethodSettings, llm: LlmShape, vision: VisionShape, *, online: bool
) -> MethodCosts:
    if (formula := formula_of(settings, llm, vision, online=online)) is not None:
        return formula
    from ademvl.planning.measured import measured_costs  # needs torch

    return measured_costs(settings, llm, vision, online=online)

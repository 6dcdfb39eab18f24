"""The tolerance of the surface Dice: one for all structures, or one for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Tolerance = float | Mapping[str, float]


def tolerance_of(text: str) -> Tolerance:
    """A tolerance of the surface Dice in mm, or one for each structure, as it is typed.

    >>> tolerance_of("3"), tolerance_of("Liver=3,Spleen=2")
    (3.0, {'Liver': 3.0, 'Spleen': 2.0})
    """
    try:
        if "=" not in text:
            return float(text)
        return {name.strip(): float(value) for name, _, value in (part.rpartition("=") for part in text.split(","))}
    except ValueError:
        raise ValueError(
            f"a tolerance of {text!r}: expected a number of mm, or one for each structure, such as Liver=3,Spleen=2"
        ) from None


def tolerances_mm(tolerance: Tolerance, structures: Sequence[str]) -> list[float]:
    """The tolerance of each structure, in their order. Raises ValueError naming the structures that have none.

    >>> tolerances_mm({"Liver": 3.0, "Spleen": 2.0}, ["Spleen", "Liver"]), tolerances_mm(3.0, ["Liver"])
    ([2.0, 3.0], [3.0])
    """
    if not isinstance(tolerance, Mapping):
        return [tolerance] * len(structures)
    if lacking := [name for name in structures if name not in tolerance]:
        raise ValueError(
            f"the tolerance of the surface Dice has no value for {', '.join(lacking)}, only for "
            f"{', '.join(tolerance)}; expected one for each structure"
        )
    return [tolerance[name] for name in structures]

"""What an adapter does to a transformer: products and differences that its parameters grow by."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.models.adapters.layer_names import is_image_branch

# Shapes: O out and I in features of a layer, R rank. A is [R, I], B is [O, R].

Factors = dict[str, tuple[Tensor, Tensor]]
"""(B, A) of each linear layer, by its name in the official checkpoint; its weight grows by B A."""
Differences = dict[str, Tensor]
"""What parameters grow by, by their names in the official checkpoint: `blocks.0.norm3.weight`."""
ZERO = "it changes nothing: a factor of each of its layers is zero, as if it was not trained"
LONGEST = 400
"""Characters of what is said about a file, beside its address."""
WORDS = {Expert.HIGH_NOISE: "high-noise", Expert.LOW_NOISE: "low-noise", Expert.ONLY: "only"}


@dataclass(frozen=True, slots=True)
class Changes:
    """What one transformer grows by."""

    address: str
    """Address of the file, for messages."""
    factors: Factors
    differences: Differences

    def __len__(self) -> int:
        """Number of products and differences."""
        return len(self.factors) + len(self.differences)

    @property
    def bytes(self) -> int:
        pairs = (tensor for pair in self.factors.values() for tensor in pair)
        return sum(tensor.nbytes for tensor in (*pairs, *self.differences.values()))

    @property
    def is_zero(self) -> bool:
        """Whether nothing grows: an adapter that was not trained, or one of strength zero."""
        products = (bool(b.any() and a.any()) for b, a in self.factors.values())
        return not any(products) and not any(bool(d.any()) for d in self.differences.values())

    def shapes(self) -> Iterator[tuple[str, torch.Size]]:
        """Name and shape of each parameter that grows; a weight that has both a product and a
        difference comes twice."""
        for layer, (b, a) in self.factors.items():
            yield f"{layer}.weight", torch.Size((b.shape[0], a.shape[1]))
        for name, tensor in self.differences.items():
            yield name, tensor.shape

    def without(self, parameters: frozenset[str]) -> Changes:
        """The changes of all other parameters."""
        kept = {
            layer: pair
            for layer, pair in self.factors.items()
            if f"{layer}.weight" not in parameters
        }
        others = {
            name: tensor for name, tensor in self.differences.items() if name not in parameters
        }
        return Changes(self.address, kept, others)


class Adapter(NamedTuple):
    """The content of a file."""

    dialect: Dialect
    parts: Mapping[Expert, Changes]
    """ONLY alone, for whatever transformer it is used on; or of one expert or both."""

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts.values())

    @property
    def address(self) -> str:
        """Address of the file."""
        return next(iter(self.parts.values())).address

    def part(self, expert: Expert) -> Changes | None:
        """What it has for a transformer. A model of one transformer takes that of either expert, as
        far as there is but one."""
        if expert is Expert.ONLY and len(self.parts) == 1:
            (only,) = self.parts.values()
            return only
        return self.parts.get(Expert.ONLY, self.parts.get(expert))

    def of(self, expert: Expert) -> Changes:
        """What it has for a transformer. Raises InputError(MODEL_INVALID) if that is nothing."""
        found = self.part(expert)
        if found is not None:
            return found
        its = " and ".join(WORDS[each] for each in self.parts)
        if expert is Expert.ONLY:
            what = f"is of the {its} experts of Wan2.2, and this model has one transformer"
        else:
            what = f"is of the {its} expert, not of the {WORDS[expert]} one"
        raise invalid(self.address, what)

    def fitted(
        self, expert: Expert, parameters: Mapping[str, torch.Size]
    ) -> tuple[Changes, tuple[str, ...]]:
        """The part of a transformer that has these parameters, and the names of the image branches
        that it lacks, which are left out.

        Raises:
            InputError: MODEL_INVALID, as `of`; if anything else does not fit, with how much does;
                or if nothing is left.
        """
        changes = self.of(expert)
        wanted = list(changes.shapes())
        lacking = {name for name, _ in wanted if name not in parameters and is_image_branch(name)}
        others = [each for each in wanted if each[0] not in lacking]
        odd = [each for each in others if parameters.get(each[0]) != each[1]]
        if odd or not others:
            name, there = (odd or wanted)[0]
            here = dimensions(parameters[name]) if name in parameters else "none"
            raise invalid(
                self.address,
                f"has the keys of {self.dialect}, but {len(others) - len(odd)} of its "
                f"{len(wanted)} layers fit this model: {name} is {dimensions(there)} there and "
                f"{here} here",
            )
        return changes.without(frozenset(lacking)), tuple(sorted(lacking))


def without_image_branches(left_out: Collection[str]) -> str:
    """What is said of image branches that a model lacks."""
    return (
        f"{len(left_out)} of its layers are image branches, which this model has not; they are "
        f"left out, such as {min(left_out)}"
    )


def invalid(address: str, what: str) -> InputError:
    """Error about a file that is not what it should be. `what` may hold words of the file: they
    are cut, and what cannot be printed is replaced."""
    text = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in what)
    return InputError(Reason.MODEL_INVALID, f"{address} {text[:LONGEST]}")


def dimensions(shape: torch.Size) -> str:
    """`5120x1536`"""
    return "x".join(map(str, shape))

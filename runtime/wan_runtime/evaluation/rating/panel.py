"""The panel: all raters, what each of them judges, and what they said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.evaluation import RatingSpec
from wan_runtime.evaluation.rating.judgements import Judgements
from wan_runtime.evaluation.rating.links import Links
from wan_runtime.evaluation.rating.plan import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What the page is served from."""

    spec: RatingSpec
    plan: Mapping[str, tuple[Item, ...]]
    links: Links
    judgements: Judgements
    store: Store
    """A store that gives up soon."""
    deadline_seconds: Callable[[], int]
    """Seconds after the first start at which the ratings end, as they are set now."""
    frames: str
    """URI of the folder that paths of first frames are below."""
    items: dict[str, dict[str, Item]] = field(init=False)
    """Items of each rater by their ids, in his order. What is judged once is there once."""

    def __post_init__(self) -> None:
        found = {rater: {item.id: item for item in items} for rater, items in self.plan.items()}
        object.__setattr__(self, "items", found)

    @property
    def total(self) -> int:
        """Number of judgements of all raters, given or not."""
        return sum(map(len, self.items.values()))

    @property
    def deadline(self) -> datetime:
        """End of the ratings, whether or not they are complete."""
        return self.links.opened + timedelta(seconds=self.deadline_seconds())

    def is_over(self, now: datetime) -> bool:
        """Whether there is nothing to wait for."""
        return self.judgements.complete or now >= self.deadline

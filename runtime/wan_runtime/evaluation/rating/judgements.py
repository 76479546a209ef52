"""What raters said: one object in the store for each judgement, under a key of rater and item."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import ValidationError

from wan_runtime.artifacts.store import ArtifactCorrupt, ObjectNotFound, Store
from wan_runtime.evaluation.rating.plan import Item
from wan_runtime.evaluation.records import Choice, Rating, Ratings
from wan_runtime.faults import described
from wan_runtime.threads import in_order

log = logging.getLogger(__name__)

READERS = 8
"""Objects read at a time."""
Judgement = Rating | Choice


class Judgements:
    """All judgements of the plan that the store has. Keeps a copy in memory."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        mode: Literal["Scores", "Pairs"],
        plan: Mapping[str, tuple[Item, ...]],
    ) -> None:
        """Reads what earlier attempts saved."""
        self._store, self._prefix, self._plan = store, prefix, plan
        self._kind: type[Rating] | type[Choice] = Rating if mode == "Scores" else Choice
        self._known: dict[str, dict[str, Judgement]] = {}
        self.load()

    def load(self) -> None:
        """Read all of them from the store."""
        for rater, items in self._plan.items():
            self._known[rater] = dict(self._read_all(rater, [item.id for item in items]))

    def save(self, store: Store, rater: str, item: Item, judgement: Judgement) -> None:
        """Put it into `store` and read it back; one of the same rater and item is replaced.

        Raises ArtifactCorrupt if the store has something else afterwards, and what a Store raises.
        """
        key, data = self._key(rater, item.id), judgement.model_dump_json(by_alias=True).encode()
        store.put_bytes(key, data, content_type="application/json")
        if store.get_bytes(key) != data:
            raise ArtifactCorrupt(f"{store.uri(key)} was replaced while it was saved")
        self._known[rater][item.id] = judgement

    def of(self, rater: str) -> Mapping[str, Judgement]:
        """Judgements of a rater by the item's id."""
        return self._known[rater]

    @property
    def count(self) -> int:
        """Number of judgements of all raters."""
        return sum(map(len, self._known.values()))

    @property
    def complete(self) -> bool:
        """Whether all have judged all."""
        # Equal videos of two clips of one prompt are one item, judged once.
        return all(
            item.id in self._known[rater] for rater, items in self._plan.items() for item in items
        )

    def ratings(self) -> Ratings:
        """All of them, with the clips and candidates as the evaluation names them now."""
        ratings: list[Rating] = []
        choices: list[Choice] = []
        for rater, items in self._plan.items():
            for item in items:
                match self._known[rater].get(item.id):
                    case Rating() as rating:
                        update = {"rater": rater, "clip": item.clip.id}
                        ratings.append(rating.model_copy(update=update))
                    case Choice() as choice:
                        update = {"rater": rater, "clip": item.clip.id}
                        choices.append(choice.model_copy(update=update))
        return Ratings(
            ratings=tuple(ratings),
            choices=tuple(choices),
            raters=tuple(self._plan),
            complete=self.complete,
        )

    def _folder(self, rater: str) -> str:
        # A name may have any characters.
        return f"{self._prefix}/{hashlib.sha256(rater.encode()).hexdigest()[:16]}"

    def _key(self, rater: str, id: str) -> str:
        return f"{self._folder(rater)}/{id}.json"

    def _read_all(self, rater: str, ids: Sequence[str]) -> Iterator[tuple[str, Judgement]]:
        stored = {info.key for info in self._store.list(f"{self._folder(rater)}/")}
        wanted = [id for id in ids if self._key(rater, id) in stored]
        found = in_order(lambda id: self._read(rater, id), wanted, threads=READERS)
        for id, judgement in zip(wanted, found, strict=True):
            if judgement is not None:
                yield id, judgement

    def _read(self, rater: str, id: str) -> Judgement | None:
        key = self._key(rater, id)
        try:
            return self._kind.model_validate_json(self._store.get_bytes(key))
        except ObjectNotFound:
            return None
        except ValidationError as error:
            text = "%s is none of ours and is requested again: %s"
            log.warning(text, self._store.uri(key), described(error))
            return None

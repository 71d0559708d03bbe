"""The hub's side of a push: a repository, one commit with everything in it, and all of it fetched back and compared.

Files go over plain HTTP (git-lfs), as downloads do: any hub knows it, and it can be tried without one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.core.adapter_info import CONFIG, WEIGHT_NAMES
from llm_installer.core.errors import HubError
from llm_installer.core.json_file import read_object
from llm_installer.core.manifest import sha256_of
from llm_installer.core.text import counted, size
from llm_installer.core.user_config import offer_token
from llm_installer.core.voice import Voice
from llm_installer.export.push.request import ADAPTER, GGUF, MERGED, WORDS, File
from llm_installer.install.download import Meter, RemoteFile, download
from llm_installer.install.from_hub import list_files
from llm_installer.install.hub_errors import Sentences, explained
from llm_installer.install.resolve import Source

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

_LOG_IN = "give one that may write: log in with `hf auth login`, or set HF_TOKEN"
_WRITE = "{hub} does not let your token write to {id}; " + _LOG_IN
_FULL = (
    "{hub} has no more room for {id}: the storage of its owner is full; free some there, or push the adapter alone, "
    "which is small"
)
UPLOAD = Sentences(
    what="The push to {id}",
    again="run the same command again; a commit arrives complete or not at all",
    by_name={
        "GatedRepoError": "{id} is gated, and your token may not read it; accept its terms on {hub}/{id}, then {again}",
        "DisabledRepoError": "{id} has been disabled on {hub}; choose another name with --repo",
        "RepositoryNotFoundError": "{hub} has no {id} that your token may write to; check --repo, or " + _LOG_IN,
        "OfflineModeIsEnabled": "Nothing can be pushed to {id} while HF_HUB_OFFLINE is set; unset it",
    },
    by_status={
        401: "{hub} refused your token; " + _LOG_IN,
        402: _FULL,
        403: _WRITE,
        409: "{id} is being changed by somebody else; {again}",
        412: "{id} was changed by somebody else meanwhile; {again}",
        413: _FULL,
        429: "{hub} refuses more requests for now; wait a few minutes, then {again}",
        507: _FULL,
    },
    by_words={"storage limit": _FULL, "storage quota": _FULL, "quota exceeded": _FULL},
)
_WEIGHTS = (".safetensors", ".bin", ".index.json")


@dataclass(frozen=True)
class Sent:
    """What was committed, and fetched back."""

    url: str
    commit: str
    proof: str
    replaced: tuple[str, ...]
    """Weights of an earlier push that are not in this one, and are deleted in the commit."""


def repository(repo: str | None, name: str) -> str:
    """OWNER/NAME of what is meant; without one it is `name`, of whoever the token belongs to.

    Raises HubError without a token, and where the hub does not know it.
    """
    from huggingface_hub import HfApi, get_token

    offer_token()
    with explained(Source("hub", repo or name, ""), UPLOAD):
        token = get_token()
        if not token:
            raise HubError(f"A push to {repo or name} needs a token; {_LOG_IN}")
        if repo:
            return repo
        return f"{HfApi(library_name='llm-installer').whoami()['name']}/{name}"


def send(staged: Path, files: Sequence[File], target: tuple[str, str, bool], back: Path, voice: Voice) -> Sent:
    """Send everything in `staged` as one commit; `target` is (repository, kind, private). What arrived is fetched into
    `back`, and compared. Raises HubError."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    repo, kind, private = target
    api = HfApi(library_name="llm-installer")
    with explained(Source("hub", repo, ""), UPLOAD), _over_http():
        url = str(api.create_repo(repo, private=private or None, exist_ok=True))
        now = api.model_info(repo)
        _refuse(now, repo, kind, private)
        names = {file.name for file in files}
        old = tuple(name for name in _names(now) if _is_weight(name, kind) and name not in names)
        total = sum(file.bytes for file in files)
        with voice.waiting(f"Sending {counted(len(files), 'file')} ({size(total)}) to {repo}"):
            commit = _commit(
                api,
                repo,
                now.sha,
                [CommitOperationAdd(file.name, staged / file.name) for file in files]
                + [CommitOperationDelete(name) for name in old],
            )
        with voice.waiting("Fetching it back to compare"):
            _compare(staged, files, Source("hub", repo, "", revision=commit), back)
    return Sent(url, commit, _proof(staged, back, kind), old)


def _commit(api: HfApi, repo: str, parent: str | None, operations: list[object]) -> str:
    """Make one commit, unless somebody else was faster. Returns its id."""
    try:
        done = api.create_commit(
            repo,
            operations,  # type: ignore[arg-type]
            commit_message="Pushed with llm-installer",
            parent_commit=parent,
        )
    except RuntimeError as error:  # the client wraps whatever a large file met
        raise error.__cause__ or error from None
    return str(done.oid)


@contextmanager
def _over_http() -> Iterator[None]:
    """The client sends large files in the way that every hub knows, and draws nothing."""
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_XET, constants.HF_HUB_DISABLE_PROGRESS_BARS
    constants.HF_HUB_DISABLE_XET = True
    constants.HF_HUB_DISABLE_PROGRESS_BARS = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET, constants.HF_HUB_DISABLE_PROGRESS_BARS = before


def _names(info: ModelInfo) -> list[str]:
    return [sibling.rfilename for sibling in info.siblings or []]


def _refuse(now: ModelInfo, repo: str, kind: str, private: bool) -> None:
    """Raise HubError for a repository that something of another kind is in, or that everybody can read."""
    if private and now.private is False:
        raise HubError(f"{repo} is there already, and public; leave out --private, or choose another name with --repo")
    there = _kinds(_names(now))
    if there and kind not in there:
        raise HubError(
            f"{repo} holds {WORDS[min(there)]} already, and {WORDS[kind]} beside it would not be found; choose another "
            "name with --repo"
        )


def _kinds(names: Sequence[str]) -> set[str]:
    """What a repository with these files is."""
    marks = {ADAPTER: CONFIG in names, MERGED: "config.json" in names, GGUF: any(n.endswith(".gguf") for n in names)}
    return {kind for kind, there in marks.items() if there}


def _is_weight(name: str, kind: str) -> bool:
    """Whether a file would be loaded together with what is sent."""
    return kind != GGUF and name.endswith(_WEIGHTS) and "/" not in name


def _compare(staged: Path, files: Sequence[File], source: Source, back: Path) -> None:
    """Fetch every file of a commit and compare it. Raises HubError for one that is not what was sent."""
    _, there = list_files(source)
    parts = back.with_name(f"{back.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    meter = Meter(lambda text: None, 0)
    for file in files:
        found = there.get(file.name)
        sent = sha256_of(staged / file.name)
        if found is None or _fetched(found, back, parts, meter) != sent:
            raise HubError(
                f"{file.name} is not in {source.id} as it was sent (commit {source.revision}); push it again, or "
                "delete the repository"
            )


def _fetched(file: RemoteFile, back: Path, parts: Path, meter: Meter) -> str:
    """The sha256 of a file as it arrived; empty for one that arrives damaged each time."""
    try:
        return download(file, back, parts, meter)
    except HubError:
        return ""


def _proof(staged: Path, back: Path, kind: str) -> str:
    if kind != ADAPTER:
        return "Every file was fetched back: all hashes are equal."
    tensors = _same_adapter(staged, back)
    return f"Every file was fetched back, and the adapter loaded: files and {counted(tensors, 'tensor')} are equal."


def _same_adapter(staged: Path, back: Path) -> int:
    """Load both with PEFT and compare. Returns how many tensors there are. Raises HubError."""
    from peft import PeftConfig
    from peft.utils.save_and_load import load_peft_weights

    configs = [PeftConfig.from_pretrained(str(folder)).to_dict() for folder in (staged, back)]
    sent, arrived = (load_peft_weights(str(folder), device="cpu") for folder in (staged, back))
    equal = sent.keys() == arrived.keys() and all(sent[name].equal(arrived[name]) for name in sent)
    if not equal or configs[0] != configs[1] or read_object(back / CONFIG) != read_object(staged / CONFIG):
        raise HubError(f"{WEIGHT_NAMES[0]} or {CONFIG} is not what was sent; push it again")
    return len(sent)

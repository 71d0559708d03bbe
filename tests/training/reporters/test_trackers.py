"""W&B and MLflow, with the real packages and no network: what was sent is read back from their own files."""

from __future__ import annotations

import io
import json
import math
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from llm_installer.core.errors import UsageError
from llm_installer.planning.options import Options
from llm_installer.planning.trackers import NAMES, asked
from llm_installer.training.reporters import REPORTERS, Reporting, reporters
from llm_installer.training.reporters.trackers import TRACKERS, trackers

NOWHERE = "http://127.0.0.1:9"
"""The discard port: nobody answers."""
CURVES = {
    "loss/train_step",
    "optimizer/learning_rate",
    "optimizer/grad_norm",
    "progress/epoch",
    "tokens_per_second",
    "loss/train",
}
CURVES |= {"loss/validation", "memory/resident_gib"}


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_NAME", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_ERROR_REPORTING", "WANDB_INIT_TIMEOUT", "MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")  # so that what the reporters set by default is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    if wandb := sys.modules.get("wandb"):
        wandb.teardown()  # which reads its variables once, and leaves a process to talk to


def play(story, options: Options, evaluations: int = 5) -> str:
    """The story told to the console and the trackers; what the console said."""
    file = io.StringIO()
    with reporters(
        story.header,
        Reporting(
            ("log", "terminal"),
            Console(file=file, width=100),
            trackers=trackers(story.header, {"lora_r": 8, "mode": "fast"}, options),
        ),
    ) as report:
        story.play(report, evaluations)
        report.on_end(story.state, story.result())
    return file.getvalue()


def sent_to_wandb(root: Path) -> Iterator[object]:
    """The records in wandb's own file of an offline run, which is laid out as a log of LevelDB."""
    from wandb.proto import wandb_internal_pb2

    (file,) = root.rglob("*.wandb")
    data, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := -at % 32768) and left < 7:  # a block ends where no header fits
            at += left
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def test_wandb_gets_every_curve_and_keeps_its_files_with_the_run(make_story: Callable) -> None:
    wandb = pytest.importorskip("wandb")
    story = make_story()
    said = play(story, Options(wandb_project="my project", wandb_entity="my-team"))
    assert "Warning" not in said
    wandb.teardown()  # its own process writes the file, and ends with this
    records = list(sent_to_wandb(story.header.run.root))
    begun = next(r.run for r in records if r.HasField("run"))
    assert (begun.project, begun.display_name, begun.run_id) == ("my project", story.header.run.id, story.header.run.id)
    assert begun.entity == "my-team"
    points: dict[str, dict[int, float]] = {}
    for record in records:
        if record.HasField("history"):
            values = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.history.item}
            for key, value in values.items():
                points.setdefault(key, {})[values["_step"]] = value
    assert set(points) >= CURVES
    assert list(points["loss/train_step"]) == list(range(1, 41))
    assert points["loss/validation"] == {0: 2.1, 10: 1.7, 20: 1.4, 30: 1.5, 40: 1.6}


def test_mlflow_gets_every_curve_where_no_server_is_named(make_story: Callable) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    story = make_story()
    assert "Warning" not in play(story, Options(report_to="mlflow"))
    client = MlflowClient(tracking_uri=(story.header.model_dir.root / "logs" / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("llm-installer")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == story.header.run.id and run.info.status == "FINISHED"
    assert run.data.params == {"model": "tiny", "method": "lora", "lora_r": "8", "mode": "fast"}
    assert set(run.data.metrics) == CURVES
    steps = client.get_metric_history(run.info.run_id, "loss/train_step")
    assert [m.step for m in steps] == list(range(1, 41)) and math.isnan(steps[6].value)
    losses = client.get_metric_history(run.info.run_id, "loss/validation")
    assert [(m.step, m.value) for m in losses] == [(0, 2.1), (10, 1.7), (20, 1.4), (30, 1.5), (40, 1.6)]


def test_mlflow_goes_on_in_the_same_run(make_story: Callable, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    options = Options(mlflow_tracking_uri=(tmp_path / "ml runs").as_uri(), mlflow_experiment_name="mine")
    play(make_story(), options, evaluations=2)
    play(make_story(start_step=10), options, evaluations=3)
    client = MlflowClient(tracking_uri=options.mlflow_tracking_uri)
    assert len(client.search_runs([client.get_experiment_by_name("mine").experiment_id])) == 1


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_one_warning(make_story: Callable, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m.partition(".")[0] == name] or [name]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, name, None)
    said = play(make_story(), Options(report_to=name))
    (warning,) = (line for line in said.splitlines() if line.startswith("Warning"))
    assert warning.startswith(f"Warning: {name} is off for the rest of this run: {name} is not installed; ")
    assert "Trained 40 steps" in said


@pytest.mark.parametrize(
    ("package", "options", "environment", "says"),
    [
        ("wandb", Options(report_to="wandb"), {"WANDB_MODE": "online"}, "wandb login"),
        (
            "wandb", Options(report_to="wandb"),
            {"WANDB_MODE": "online", "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": NOWHERE, "WANDB_INIT_TIMEOUT": "1"},
            "refused",
        ),
        ("mlflow", Options(mlflow_tracking_uri=NOWHERE), {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}, "refused"),
        ("mlflow", Options(mlflow_tracking_uri="nonsense://x"), {}, "nonsense"),
    ],
)  # fmt: skip
def test_a_service_that_refuses_is_one_warning(
    make_story: Callable, monkeypatch: pytest.MonkeyPatch, package: str, options: Options, environment: dict[str, str],
    says: str,
) -> None:  # fmt: skip
    pytest.importorskip(package)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said = play(make_story(), options)
    (warning,) = (line for line in said.splitlines() if line.startswith("Warning"))
    assert warning.startswith(f"Warning: {package} is off for the rest of this run: ") and says in warning
    assert "Trained 40 steps" in said


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (Options(), []),
        (Options(report_to="mlflow, wandb"), ["mlflow", "wandb"]),
        (Options(report_to="wandb", wandb_project="p"), ["wandb"]),
        (Options(wandb_entity="e"), ["wandb"]),
        (Options(mlflow_tracking_uri="file:x"), ["mlflow"]),
    ],
)
def test_who_is_asked_for(options: Options, names: list[str]) -> None:
    assert asked(options) == names


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match="--report-to does not know 'comet'; choose from: wandb, mlflow"):
        asked(Options(report_to="wandb,comet"))


def test_trackers_are_no_part_of_what_everybody_gets() -> None:
    assert not {"wandb", "mlflow"} & set(REPORTERS)


def test_every_name_has_a_tracker() -> None:
    assert tuple(TRACKERS) == NAMES

"""Which handler a model gets, who shadows whom, and what a broken handler or a wrong target says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.handler import ALL_LINEAR, Handler
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.registry import all_handlers, check_targets, find_handler

REPOSITORY = Path(__file__).parents[2]
IMPORT = "from llm_installer.core.handler import Handler\n"
MINE = IMPORT + "HANDLER = Handler(name='mine', model_types=({types}), target_modules=('w',))\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's handlers folder, empty."""
    monkeypatch.setenv("LLM_HOME", str(tmp_path))
    made = tmp_path / "handlers"
    made.mkdir()
    return made


def model(model_type: str) -> ModelInfo:
    return ModelInfo(
        path=Path("model"),
        name="model",
        model_type=model_type,
        architecture="",
        parameters=1,
        dtype="float32",
        vocab_size=1,
        hidden_size=1,
        intermediate_size=1,
        layers=1,
        heads=1,
        kv_heads=1,
        head_dim=1,
        max_positions=1,
        chat_template=False,
        vision=False,
        weight_bytes=1,
    )


def offer(site: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an installed package named `name` on sys.path, with an entry point `extra` to its HANDLER."""
    (site / f"{name}.py").write_text(code)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[llm_installer.handlers]\nextra = {name}:HANDLER\n")
    monkeypatch.syspath_prepend(str(site))


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("llama", "llama"),
        ("llama4_text", "llama4"),
        ("gemma3", "gemma3"),
        ("smollm3", "smollm"),
        ("Llama", "generic"),
        ("code_llama", "generic"),
        ("llam", "generic"),
        ("", "generic"),
    ],
)
def test_a_model_type_is_matched_exactly_or_not_at_all(folder: Path, model_type: str, name: str) -> None:
    found = find_handler(model(model_type))
    assert (found.name, found.source) == (name, "built-in")


@pytest.mark.parametrize(
    ("model_type", "modules", "dtype"),
    [
        ("llama", ALL_LINEAR, "float16"),
        ("gemma3", ALL_LINEAR, "bfloat16"),
        ("gpt2", ALL_LINEAR, "float16"),
        ("never-heard-of", ALL_LINEAR, "float16"),
    ],
)
def test_what_is_chosen_for_a_family(folder: Path, model_type: str, modules: tuple[str, ...], dtype: str) -> None:
    found = find_handler(model(model_type))
    assert (found.target_modules, found.dtype) == (modules, dtype)


def test_no_two_built_in_handlers_share_a_name_or_a_family(folder: Path) -> None:
    handlers = all_handlers()
    names = [handler.name for handler in handlers]
    types = [name for handler in handlers for name in handler.model_types]
    assert (len(set(names)), len(set(types))) == (len(names), len(types))
    assert [handler.name for handler in handlers if not handler.model_types] == ["generic"]


def test_the_users_handler_comes_before_an_entry_point_and_both_before_ours(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = MINE.replace("'mine'", "'packaged'").format(types="'llama', 'gpt2', 'brand_new'")
    offer(tmp_path, "packaged_handler_one", packaged, monkeypatch)
    file = folder / "mymodel.py"
    file.write_text(MINE.format(types="'llama',"))

    entry_point = "entry point extra of packaged_handler_one"
    found = {name: find_handler(model(name)) for name in ("llama", "gpt2", "brand_new", "opt")}
    assert {name: handler.source for name, handler in found.items()} == {
        "llama": str(file),
        "gpt2": entry_point,
        "brand_new": entry_point,
        "opt": "built-in",
    }
    assert found["llama"] == Handler(name="mine", model_types=("llama",), target_modules=("w",), source=str(file))

    listed = all_handlers()
    sources = {handler.name: handler.source for handler in listed}
    assert [handler.name for handler in listed[:2]] == ["mine", "packaged"]
    assert sources["mine"] == str(file)
    assert sources["packaged"] == f"{entry_point}; shadowed for llama by {file}"
    assert sources["llama"] == f"built-in; shadowed for llama by {file}"
    assert sources["gpt2"] == f"built-in; shadowed for gpt2 by {entry_point}"
    assert sources["opt"] == "built-in"


def test_a_user_may_replace_what_unknown_families_get(folder: Path) -> None:
    file = folder / "anything.py"
    file.write_text(MINE.format(types=""))
    assert find_handler(model("never-heard-of")).source == str(file)
    assert find_handler(model("llama")).source == "built-in"
    generic = next(handler for handler in all_handlers() if handler.name == "generic")
    assert generic.source == f"built-in; shadowed for unknown families by {file}"


def test_of_two_user_files_the_first_by_name_wins_and_helpers_are_not_handlers(folder: Path) -> None:
    for name in ("b.py", "a.py"):
        (folder / name).write_text(MINE.format(types="'llama',"))
    (folder / "_helper.py").write_text("raise RuntimeError\n")
    (folder / "notes.txt").write_text("not Python\n")
    assert find_handler(model("llama")).source == str(folder / "a.py")


def test_a_changed_file_is_read_again_and_leaves_nothing_behind(folder: Path) -> None:
    file = folder / "mine.py"
    for name in ("one", "two"):
        file.write_text(MINE.replace("mine", name).format(types="'llama',"))
        assert find_handler(model("llama")).name == name
    assert list(folder.iterdir()) == [file]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("HANDLER = (\n", "SyntaxError"),
        ("\x00", "SyntaxError"),
        ("", "does not set HANDLER = Handler(...)"),
        ("HANDLER = {'name': 'mine'}\n", "does not set HANDLER = Handler(...)"),
        (IMPORT + "HANDLER = Handler\n", "does not set HANDLER = Handler(...)"),
        (IMPORT + "HANDLER = Handler(name='mine', model_types=('x',), ranks=8)\n", "'ranks'"),
        (IMPORT + "HANDLER = Handler(name='mine')\n", "model_types"),
        ("HANDLER = Handler(name='mine')\n", "NameError"),
        ("import a_package_that_nobody_has\n", "a_package_that_nobody_has"),
        ("open('/a/file/that/nobody/has')\n", "FileNotFoundError"),
        ("1 / 0\n", "ZeroDivisionError"),
        (IMPORT + "HANDLER = Handler(name='mine', model_types=('x'))\n", "model_types must be a tuple of texts"),
        (IMPORT + "HANDLER = Handler(name='mine', model_types=['x'])\n", "model_types must be a tuple of texts"),
        (IMPORT + "HANDLER = Handler(name='', model_types=('x',))\n", "name must be a text"),
        (IMPORT + "HANDLER = Handler('m', ('x',), target_modules=())\n", "target_modules must be"),
        (IMPORT + "HANDLER = Handler('m', ('x',), target_modules='q_proj')\n", "target_modules must be"),
        (IMPORT + "HANDLER = Handler('m', ('x',), dtype='bf16')\n", "dtype must be 'float16', 'bfloat16' or 'float32'"),
        (IMPORT + "HANDLER = Handler('m', ('x',), max_length='4096')\n", "max_length must be a positive number"),
        (IMPORT + "HANDLER = Handler('m', ('x',), max_length=0)\n", "max_length must be a positive number"),
        (IMPORT + "HANDLER = Handler('m', ('x',), max_length=True)\n", "max_length must be a positive number"),
        (IMPORT + "HANDLER = Handler('m', ('x',), packing='no')\n", "packing must be True or False"),
        (IMPORT + "HANDLER = Handler('m', ('x',), vision=1)\n", "vision must be True or False"),
        (IMPORT + "HANDLER = Handler('m', ('x',), fan_in_fan_out=None)\n", "fan_in_fan_out must be True or False"),
        (IMPORT + "HANDLER = Handler('m', ('x',), example=None)\n", "example must be a text"),
    ],
)
def test_a_broken_handler_file_is_named_with_what_is_wrong(folder: Path, code: str, says: str) -> None:
    file = folder / "broken.py"
    file.write_text(code)
    with pytest.raises(InstallerError) as caught:
        find_handler(model("opt"))
    assert str(file) in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InstallerError):
        all_handlers()


def test_a_broken_entry_point_names_its_package(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, "packaged_handler_two", "import a_package_that_nobody_has\n", monkeypatch)
    with pytest.raises(InstallerError) as caught:
        find_handler(model("opt"))
    assert "entry point extra of packaged_handler_two" in str(caught.value)
    assert "a_package_that_nobody_has" in str(caught.value)


NAMES = (
    "model.layers.0.self_attn.q_proj",
    "model.layers.0.self_attn.k_proj",
    "model.layers.0.mlp.down_proj",
    "model.layers.1.self_attn.q_proj",
    "model.layers.1.self_attn.fused_q_proj",
    "score",
)


@pytest.mark.parametrize(
    ("targets", "matched"),
    [
        (("q_proj",), (0, 3)),
        (("down_proj", "q_proj"), (0, 2, 3)),
        (("mlp.down_proj",), (2,)),
        (("score",), (5,)),
        (ALL_LINEAR, (0, 1, 2, 3, 4, 5)),
    ],
)
def test_targets_match_whole_names_from_the_end(targets: tuple[str, ...], matched: tuple[int, ...]) -> None:
    assert check_targets(iter(NAMES), targets) == tuple(NAMES[index] for index in matched)


@pytest.mark.parametrize(
    ("targets", "named"),
    [
        (("c_attn",), "c_attn"),
        (("proj",), "proj"),
        (("q_proj", "v_proj", "o_proj"), "v_proj or o_proj"),
        (("model.layers.2.self_attn.q_proj",), "model.layers.2.self_attn.q_proj"),
    ],
)
def test_a_target_without_a_layer_lists_the_layers_there_are(targets: tuple[str, ...], named: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_targets(NAMES, targets)
    assert str(caught.value) == (
        f"No layer of this model is named {named}; "
        "its linear layers are down_proj, fused_q_proj, k_proj, q_proj, score: "
        "choose among them with --target-modules a,b"
    )


@pytest.mark.parametrize("targets", [ALL_LINEAR, ("q_proj",)])
def test_a_model_without_linear_layers_has_no_targets(targets: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match="its linear layers are none"):
        check_targets((), targets)


SHOW = (
    "import sys; from llm_installer.planning.registry import all_handlers; "
    "print(*sorted(h.name for h in all_handlers())); print('torch' in sys.modules, 'transformers' in sys.modules)"
)


@pytest.mark.parametrize("layout", ["checkout", "installed"])
def test_the_built_in_files_are_found_beside_the_package_and_inside_it(
    layout: str, folder: Path, tmp_path: Path
) -> None:
    """A wheel holds llm_installer/handlers/; a checkout has handlers/ next to llm_installer/."""
    root = tmp_path / layout
    for part in ("core", "planning"):
        shutil.copytree(REPOSITORY / "llm_installer" / part, root / "llm_installer" / part)
    shutil.copy(REPOSITORY / "llm_installer" / "__init__.py", root / "llm_installer")
    shutil.copytree(REPOSITORY / "handlers", root / ("llm_installer/handlers" if layout == "installed" else "handlers"))
    run = subprocess.run([sys.executable, "-c", SHOW], cwd=root, capture_output=True, text=True, check=True)
    names, imported = run.stdout.splitlines()
    assert names.split() == sorted(handler.name for handler in all_handlers())
    assert imported == "False False"

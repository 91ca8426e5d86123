"""The notebook wrapper: parameters, streaming, failures, signals, refreshed notebooks."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
import pytest
import working
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from workbench.stages import notebook


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Failures go to the test's folder; environment and signals are afterwards as they were before."""
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    monkeypatch.setattr(notebook, "FAILED", tmp_path / "failed")
    before = dict(os.environ)
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for name in (*notebook.ENVIRONMENT, "SMOOT_PROGRESS"):
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)
    for number, action in signals.items():
        signal.signal(number, action)


def make(file: Path, *sources: str, parameters: str = "") -> Path:
    """A notebook of code cells after a heading and, if given, a cell of parameters."""
    book = new_notebook(cells=[new_markdown_cell("# Title")])
    if parameters:
        book.cells.append(new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    book.cells += [new_code_cell(source) for source in sources]
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, file)
    return file


def outputs(file: Path) -> list[Any]:
    """The outputs of all cells, one after the other."""
    return [out for cell in nbformat.read(file, as_version=4).cells for out in cell.get("outputs", [])]


def test_parameters_are_yaml_and_the_kernel_has_one_thread_and_the_notebooks_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "abcdefgh"
    source = make(
        tmp_path / "notebooks" / "source {a}.ipynb",
        f"import json, os, sys\nprint(json.dumps([{', '.join(names)}]))",
        "print([os.getcwd(), os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY']])",
        "import smoot\nprint(smoot.__path__[0], file=sys.stderr)",
        parameters="\n".join(f"{name} = 0  # {name}" for name in names),
    )
    texts = {"a": "7", "b": "1e-3", "c": "null", "d": "true", "e": "[0, x]", "f": "{k: 0.5}", "g": "mnist"}
    pairs = [part for name, text in texts.items() for part in ("-p", name, text)]
    target = tmp_path / "runs" / "deep" / "target.ipynb"
    assert notebook.main(["run", str(source), str(target), *pairs]) == 0
    shown = capsys.readouterr()
    values, where = shown.out.splitlines()
    assert json.loads(values) == [7, 0.001, None, True, [0, "x"], {"k": 0.5}, "mnist", 0]
    assert where == str([str(source.parent), "1", "PASSIVE"])
    assert shown.err.splitlines() == [str(Path(notebook.__file__).parents[2] / "smoot")]
    assert [out.text for out in outputs(target)] == [values + "\n", where + "\n", shown.err]
    assert [file.name for file in target.parent.iterdir()] == ["target.ipynb"]


def test_an_unknown_parameter_is_an_error_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make(tmp_path / "n.ipynb", "open('ran', 'w')", parameters="method = 1\nseeds = None")
    assert notebook.main(["run", str(source), str(tmp_path / "t.ipynb"), "-p", "metod", "sgt"]) == 1
    assert capsys.readouterr().err == f"error: {source} has no parameter metod: expected one of method, seeds\n"
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "t.ipynb").exists()


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("a", "[1")], r"parameter a is '\[1', which is not YAML: quote it"),
        ([("a", "1"), ("a", "2")], "parameter a is given twice, the second time as 2"),
    ],
)
def test_bad_values_are_named(pairs: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        notebook.parse_parameters(pairs)


def test_a_source_must_exist_and_be_another_file_than_the_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, source = tmp_path / "missing.ipynb", make(tmp_path / "n.ipynb", "1")
    assert notebook.main(["run", str(missing), str(source)]) == 1
    assert f"no notebook {missing}" in capsys.readouterr().err
    assert notebook.main(["run", str(source), str(source)]) == 1
    assert "is the source itself" in capsys.readouterr().err


def test_a_failed_notebook_is_kept_and_named_and_the_target_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make(tmp_path / "n.ipynb", "x = 3", "\nx / 0", "open('ran', 'w')")
    target = tmp_path / "runs" / "t.ipynb"
    target.parent.mkdir()
    target.write_text("earlier")
    assert notebook.main(["run", str(source), str(target)]) == 1
    kept = tmp_path / "failed" / "runs" / "t.ipynb"
    assert capsys.readouterr().err == (
        f"error: {source}: cell [2] (x / 0): ZeroDivisionError: division by zero\nthe notebook is kept in {kept}\n"
    )
    assert target.read_text() == "earlier"
    assert [out.ename for out in outputs(kept)] == ["ZeroDivisionError"]
    assert not (tmp_path / "ran").exists()


def test_a_killed_kernel_is_a_failure_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make(tmp_path / "n.ipynb", "import os", "os.kill(os.getpid(), 9)")
    assert notebook.main(["run", str(source), str(tmp_path / "t.ipynb")]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(f"error: {source}: cell [2] (os.kill(os.getpid(), 9)): Kernel died")
    assert told[1:] == [f"the notebook is kept in {tmp_path / 'failed' / 't.ipynb'}"]
    assert not (tmp_path / "t.ipynb").exists()


def wrapper(*arguments: object) -> "AbstractContextManager[subprocess.Popen[str]]":
    """The command in a process of its own."""
    folders = os.pathsep.join(map(str, [Path(notebook.__file__).parents[2], *Path(working.__file__).parents[:2]]))
    return working.started(
        [sys.executable, "-m", "workbench", "notebook", *arguments], env=os.environ | {"PYTHONPATH": folders}
    )


def test_the_libraries_come_without_what_only_delays_them(tmp_path: Path) -> None:
    source = make(tmp_path / "n.ipynb", "1")
    code = (
        "import pathlib, sys\n"
        "from workbench.stages import notebook\n"
        f"book = notebook.read(pathlib.Path({str(source)!r}))\n"
        "with notebook.absent(notebook.UNUSED): import papermill\n"
        "print(*{'nbformat', 'jsonschema', 'papermill', 'torch', 'lark', notebook.UNUSED} & {*sys.modules})\n"
        f"notebook.write(book, pathlib.Path({str(tmp_path / 'again.ipynb')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert set(done.stdout.split()) == {"nbformat", "jsonschema", "papermill"}
    assert len(nbformat.read(tmp_path / "again.ipynb", as_version=4).cells) == 2


def test_a_module_isabsent_only_within_the_block_and_only_if_it_was_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_module.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with notebook.absent("slow_module"), pytest.raises(ModuleNotFoundError):
        import_module("slow_module")
    found = import_module("slow_module")
    with notebook.absent("slow_module"):
        assert import_module("slow_module") is found
    assert sys.modules.pop("slow_module") is found


def test_output_comes_while_the_cell_runs(tmp_path: Path) -> None:
    wait = "import pathlib, time\nprint('first', flush=True)\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)"
    source = make(tmp_path / "n.ipynb", wait, "print('last')")
    with wrapper("run", source, tmp_path / "t.ipynb") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        assert process.poll() is None
        (tmp_path / "go").touch()
        assert process.communicate(timeout=working.TIMEOUT) == ("last\n", "")
    assert process.returncode == 0


WORKERS = """import os, pathlib, working
pathlib.Path('kernel').write_text(str(os.getpid()))
tasks = [pathlib.Path('one').resolve(), pathlib.Path('two').resolve()]
working.run_tasks(working.stay, tasks, workers=2, describe='d', steps=1)"""
CHILDREN = """import os, pathlib, subprocess
children = [subprocess.Popen(['sleep', '300']) for _ in range(2)]
for name, pid in zip(['kernel', 'one', 'two'], [os.getpid(), *(child.pid for child in children)]):
    pathlib.Path(name).write_text(str(pid))
while True: pass"""


@pytest.mark.parametrize(
    ("number", "code", "cell"),
    [(signal.SIGINT, 130, CHILDREN), (signal.SIGTERM, 143, CHILDREN), (signal.SIGKILL, -9, WORKERS)],
)
def test_kernel_and_children_end_with_the_wrapper(tmp_path: Path, number: signal.Signals, code: int, cell: str) -> None:
    with wrapper("run", make(tmp_path / "n.ipynb", cell), tmp_path / "t.ipynb") as process:
        pids = [int(working.await_file(tmp_path / name)) for name in ("kernel", "one", "two")]
        assert all(map(working.running, pids))
        process.send_signal(number)
        _, told = process.communicate(timeout=working.TIMEOUT)
    assert process.returncode == code
    assert "Traceback" not in told
    assert all(map(working.ends, pids))
    assert not (tmp_path / "t.ipynb").exists()


VOLATILE = """import time
from tqdm import tqdm
print('a', flush=True)
for _ in tqdm(range(3), file=__import__('sys').stdout, bar_format='{n}'): time.sleep(0.3)
print('b')"""


def test_refresh_is_byte_stable_and_keeps_ids_counts_and_outputs(tmp_path: Path) -> None:
    file = make(tmp_path / "n.ipynb", VOLATILE, "2 * a", parameters="a = 4")
    ids = [cell.id for cell in nbformat.read(file, as_version=4).cells]
    assert notebook.main(["refresh", str(file)]) == 0
    first = file.read_bytes()
    book = nbformat.read(file, as_version=4)
    assert [cell.id for cell in book.cells] == ids
    assert [cell.execution_count for cell in book.cells[1:]] == [1, 2, 3]
    assert [cell.metadata for cell in book.cells] == [{}, {"tags": ["parameters"]}, {}, {}]
    assert set(book.metadata) == {"kernelspec", "language_info"}
    assert book.metadata.language_info == {"name": "python"}
    assert [out.get("data", out.output_type) for out in outputs(file)] == ["stream", {"text/plain": "8"}]
    book.metadata["language_info"] = {"name": "python", "version": "3.9"}
    book.cells[2].metadata["execution"] = {"iopub.status.busy": "2020-01-01"}
    nbformat.write(book, file)
    assert notebook.main(["refresh", str(file)]) == 0
    assert file.read_bytes() == first


def test_refresh_with_parameters_replaces_the_injected_cell(tmp_path: Path) -> None:
    file = make(tmp_path / "n.ipynb", "a", parameters="a = 4")
    assert notebook.main(["refresh", str(file), "-p", "a", "5"]) == 0
    once = file.read_bytes()
    assert outputs(file)[-1].data == {"text/plain": "5"}
    assert notebook.main(["refresh", str(file), "-p", "a", "5"]) == 0
    assert file.read_bytes() == once
    assert notebook.main(["refresh", str(file)]) == 0
    assert outputs(file)[-1].data == {"text/plain": "4"}
    assert len(nbformat.read(file, as_version=4).cells) == 3


def test_a_refresh_that_fails_leaves_the_notebook_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = make(tmp_path / "n.ipynb", "1 / 0")
    before = file.read_bytes()
    assert notebook.main(["refresh", str(file)]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert (tmp_path / "failed" / "n.ipynb").exists()

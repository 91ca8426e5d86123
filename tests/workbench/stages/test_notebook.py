"""The notebook wrapper: parameters, streaming, failures, signals, refreshed notebooks."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import nbformat
import pytest
import working
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from processes import FOREVER, PATIENCE

from workbench.__main__ import main
from workbench.stages import notebook


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Failures go to the test's folder; environment and signals are afterwards as they were before."""
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    monkeypatch.setattr(notebook, "FAILED", tmp_path / "failed")
    before = dict(os.environ)
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for name in (*notebook.ONE_THREAD, "SMOOT_PROGRESS"):
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


def test_parameters_are_yaml_and_the_kernel_has_one_thread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert main(["notebook", "run", str(source), str(target), *pairs]) == 0
    shown = capsys.readouterr()
    values, where = shown.out.splitlines()
    assert json.loads(values) == [7, 0.001, None, True, [0, "x"], {"k": 0.5}, "mnist", 0]
    assert where == str([str(source.parent), "1", "PASSIVE"])
    assert shown.err.splitlines() == [str(Path(notebook.__file__).parents[2] / "smoot")]
    assert [out.text for out in outputs(target)] == [values + "\n", where + "\n", shown.err]
    assert [file.name for file in target.parent.iterdir()] == ["target.ipynb"]


@pytest.mark.parametrize(
    ("source", "target", "given", "message"),
    [
        ("n", "t", ["-p", "metod", "sgt"], "n.ipynb has no parameter metod: expected one of method, seeds"),
        ("n", "t", ["-p", "seeds", "[1"], "parameter seeds is '[1', which is not plain YAML: quote it"),
        ("n", "t", ["-p", "seeds", "&a [*a]"], "parameter seeds is '&a [*a]', which is not plain YAML: quote it"),
        ("n", "t", ["-p", "seeds", "2024-13-45"], "parameter seeds is '2024-13-45', which is not plain YAML: quote it"),
        ("n", "t", ["-p", "a", "1", "-p", "a", "2"], "parameter a is given twice, the second time as 2"),
        ("missing", "t", [], "missing.ipynb: expected the path of an .ipynb file"),
        ("n", "n", [], "n.ipynb is the source itself: name another target, or use `refresh`"),
    ],
)
def test_bad_arguments_are_named_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, target: str, given: list[str], message: str
) -> None:
    make(tmp_path / "n.ipynb", "open('ran', 'w')", parameters="method = 1\nseeds = None")
    assert main(["notebook", "run", *(str(tmp_path / f"{name}.ipynb") for name in (source, target)), *given]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and shown.endswith(f"{message}\n") and shown.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["n.ipynb"]


@pytest.mark.parametrize("command", ["run", "refresh"])
def test_a_failed_notebook_is_kept_and_named_and_what_was_there_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    source = make(tmp_path / "n.ipynb", "x = 3", "\nx / 0", "open('ran', 'w')")
    target = source if command == "refresh" else make(tmp_path / "runs" / "t.ipynb", "earlier")
    before = target.read_bytes()
    assert main(["notebook", command, *dict.fromkeys([str(source), str(target)])]) == 1
    kept = tmp_path / "failed" / target.relative_to(tmp_path)
    assert capsys.readouterr().err == (
        f"error: {source}: cell [2] (x / 0): ZeroDivisionError: division by zero\nthe notebook is kept in {kept}\n"
    )
    assert target.read_bytes() == before
    assert [out.ename for out in outputs(kept)] == ["ZeroDivisionError"]
    assert not (tmp_path / "ran").exists()


def test_an_error_is_told_also_where_nothing_can_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make(tmp_path / "n.ipynb", "1 / 0")
    (tmp_path / "failed").write_text("a file where a folder should be")
    assert main(["notebook", "run", str(source), str(tmp_path / "t.ipynb")]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"error: {source}: cell [1] (1 / 0): ZeroDivisionError: division by zero"
    assert second.startswith(f"the notebook could not be kept in {tmp_path / 'failed' / 't.ipynb'} (")


@pytest.mark.parametrize(
    "content", ["{}", "", "[]", "{half", '{"cells": 3, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}']
)
def test_a_file_that_is_no_notebook_is_named(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "n.ipynb").write_text(content)
    assert main(["notebook", "run", str(tmp_path / "n.ipynb"), str(tmp_path / "t.ipynb")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {tmp_path / 'n.ipynb'} is no notebook (") and told.count("\n") == 1


def test_a_killed_kernel_is_a_failure_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make(tmp_path / "n.ipynb", "import os", "os.kill(os.getpid(), 9)")
    assert main(["notebook", "run", str(source), str(tmp_path / "t.ipynb")]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(f"error: {source}: cell [2] (os.kill(os.getpid(), 9)): Kernel died")
    assert told[1:] == [f"the notebook is kept in {tmp_path / 'failed' / 't.ipynb'}"]
    assert not (tmp_path / "t.ipynb").exists()


def wrapper(*arguments: object) -> "AbstractContextManager[subprocess.Popen[str]]":
    """The command in a process of its own."""
    return working.started([sys.executable, "-m", "workbench", "notebook", *arguments], env=working.with_tests())


def test_the_libraries_come_without_what_only_delays_them() -> None:
    code = (
        "import sys\nfrom workbench.stages import notebook\nimport nbformat, papermill\n"
        "print(*{'jsonschema', 'papermill', 'torch', 'lark', 'rfc3987_syntax.syntax_helpers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert set(done.stdout.split()) == {"jsonschema", "papermill"}


def test_output_comes_while_the_cell_runs(tmp_path: Path) -> None:
    wait = "import pathlib, time\nprint('first', flush=True)\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)"
    source = make(tmp_path / "n.ipynb", wait, "print('last')")
    with wrapper("run", source, tmp_path / "t.ipynb") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        assert process.poll() is None
        (tmp_path / "go").touch()
        assert process.communicate(timeout=PATIENCE) == ("last\n", "")
    assert process.returncode == 0


WORKERS = """import os, pathlib, working
pathlib.Path('kernel').write_text(str(os.getpid()))
tasks = [pathlib.Path('one').resolve(), pathlib.Path('two').resolve()]
working.run_tasks(working.stay, tasks, workers=2, describe='d', steps=1)"""
CHILDREN = f"""import os, pathlib, subprocess
children = [subprocess.Popen(['sleep', '{FOREVER}']) for _ in range(2)]
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
        _, told = process.communicate(timeout=PATIENCE)
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
    assert main(["notebook", "refresh", str(file)]) == 0
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
    assert main(["notebook", "refresh", str(file)]) == 0
    assert file.read_bytes() == first


def test_refresh_with_parameters_replaces_the_injected_cell(tmp_path: Path) -> None:
    file = make(tmp_path / "n.ipynb", "a", parameters="a = 4")
    assert main(["notebook", "refresh", str(file), "-p", "a", "5"]) == 0
    once = file.read_bytes()
    assert outputs(file)[-1].data == {"text/plain": "5"}
    assert main(["notebook", "refresh", str(file), "-p", "a", "5"]) == 0
    assert file.read_bytes() == once
    assert main(["notebook", "refresh", str(file)]) == 0
    assert outputs(file)[-1].data == {"text/plain": "4"}
    assert len(nbformat.read(file, as_version=4).cells) == 3

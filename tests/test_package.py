"""The package's own names: imported when they are first used, and the same as those of the modules."""

import ast
import json
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import smoot

SOURCE = Path(smoot.__file__)


def said(code: str) -> list[str]:
    """What Python prints for this code, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SOURCE.parents[1], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.splitlines()


def for_type_checkers() -> dict[str, str]:
    """Every name that the source imports for type checkers, with its module."""
    blocks = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_type_checkers_and_users_see_the_same_names() -> None:
    assert sorted(for_type_checkers()) == smoot.__all__ == sorted(set(smoot.__all__))
    for name, module in for_type_checkers().items():
        assert getattr(smoot, name) is getattr(import_module(module), name)
        assert getattr(smoot, name).__module__ == module, f"{name} is defined elsewhere"


def test_the_package_lists_its_names_and_refuses_others() -> None:
    assert {*smoot.__all__, "__version__", "metrics", "scheduler"} <= set(dir(smoot))
    assert dir(smoot) == sorted(set(dir(smoot)))
    assert not hasattr(smoot, "guided_los")
    with pytest.raises(AttributeError, match=r"^module 'smoot' has no attribute 'guided_los'$"):
        _ = smoot.guided_los
    with pytest.raises(ImportError, match="cannot import name 'guided_los' from 'smoot'"):
        exec("from smoot import guided_los")


def test_importing_the_package_imports_nothing_until_a_name_is_used() -> None:
    code = (
        "import sys, smoot\n"
        "print([name for name in sys.modules if name.startswith('smoot.') or name == 'torch'])\n"
        "dir(smoot), smoot.__version__\n"
        "print('torch' in sys.modules)\n"
        "print(smoot.metrics.gini_sparseness is smoot.gini_sparseness, 'smoot.step' in sys.modules)\n"
        "print('torch' in sys.modules, 'gini_sparseness' in vars(smoot))"
    )
    assert said(code) == ["[]", "False", "True False", "True True"]


def test_a_star_import_brings_every_name() -> None:
    code = "import json\nfrom smoot import *\nprint(json.dumps(sorted(name for name in dir() if name[0] != '_')))"
    assert json.loads(said(code)[0]) == sorted([*smoot.__all__, "json"])


def test_pickles_find_the_names_by_package_and_by_module() -> None:
    plan = smoot.MaskPlan(image_fraction=0.25)
    assert pickle.loads(pickle.dumps(plan)) == plan
    code = (
        "import pickle, sys\n"
        "print(pickle.loads(b'csmoot\\nguided_loss\\n.').__module__)\n"
        f"print(pickle.loads({pickle.dumps(plan)!r}).image_fraction)"
    )
    assert said(code) == ["smoot.objective", "0.25"]


@pytest.mark.parametrize("command", ["notebook", "readme", "metric_docs"])
def test_a_command_that_computes_nothing_starts_without_torch(command: str) -> None:
    code = f"import sys\nimport workbench.{command} as made\nprint('torch' in sys.modules, made.main.__name__)"
    assert said(code) == ["False main"]

"""Which files a piece of work depends on: what its modules import, read from the source without running."""

import ast
import hashlib
from pathlib import Path

SOURCES = Path(__file__).parents[2]
PACKAGES = ("smoot", "workbench")  # their __init__.py re-exports and says nothing about dependencies


def imported_modules(code: str, module: str = "__main__") -> set[str]:
    """Dotted names of the modules that Python source imports, anywhere in it; of smoot, those that exist.

    Args:
        code: the source.
        module: its own dotted name, which relative imports start from and errors name.

    Raises:
        ValueError: if it imports a whole package, as in ``from smoot import guided_loss``: the name does not
            say which file it depends on.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [full if _file(full := f"{base}.{alias.name}") else base for alias in node.names]
        else:
            continue
        if whole := [name for name in names if name in PACKAGES]:
            raise ValueError(f"{module}, line {node.lineno}: imports from the package {whole[0]}: name the submodule")
        found.update(names)
    return found


def _file(module: str) -> Path | None:
    """The source file of a module of smoot; None for anything else."""
    place = SOURCES.joinpath(*module.split("."))
    candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((file for file in candidates if module.startswith("smoot.") and file.is_file()), None)


def source_files(*modules: str) -> tuple[Path, ...]:
    """The files of the given smoot modules and of every smoot module they import, however indirectly.

    Raises:
        ValueError: if a module does not exist, or one of them imports a whole package.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        file = _file(module)
        if file is None:
            raise ValueError(f"no module {module!r} in {SOURCES / 'smoot'}: expected a name as smoot.masking")
        found[module] = file
        name = f"{module}.__init__" if file.name == "__init__.py" else module
        imported = imported_modules(file.read_text(encoding="utf-8"), name)
        above = module.rpartition(".")[0]  # importing a module runs its package first
        waiting += [other for other in (*imported, above) if other.startswith("smoot.")]
        waiting = [other for other in waiting if other not in PACKAGES]
    return tuple(sorted(found.values()))


def code_hash(*modules: str) -> str:
    """SHA-256 over names and contents of :func:`source_files`."""
    digest = hashlib.sha256()
    for file in source_files(*modules):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(SOURCES).as_posix()} {content}\n".encode())
    return digest.hexdigest()

"""A disk that is full in the middle of a run: an error that says so, and with more room the same comes out."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import stopping
import working
from processes import PATIENCE
from stopping import Checkout

SCRIPT = """
mount -t tmpfs -o size="$3" disk "$1" && cp -r "$2"/. "$1" || exit 99
run() { "$PYTHON" "$STOPPING" evaluate 0 >> "$4/told" 2>&1; echo $? >> "$4/codes"; }
run "$@"
find "$1" -name "*.tmp" >> "$4/left"
mount -o remount,size=1g "$1" && run "$@"
cp -r "$1/runs" "$4"
"""


def environment(root: Path) -> dict[str, str]:
    given = {"SMOOT_ROOT": str(root), "STOP": "null", "OMP_NUM_THREADS": "1"}
    return working.with_tests() | given | {"PYTHON": sys.executable, "STOPPING": stopping.__file__}


@pytest.mark.faults
@pytest.mark.parametrize("size", ["400k", "3m", "8m"])
def test_a_run_on_a_full_disk_says_so_and_goes_on_with_more_room(
    size: str, whole: tuple[Checkout, float], checkout: Checkout, tmp_path: Path
) -> None:
    disk, made = tmp_path / "disk", tmp_path / "made"
    disk.mkdir()
    made.mkdir()
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"]
    command += [str(disk), str(checkout.root), size, str(made)]
    done = subprocess.run(
        command, check=False, env=environment(disk), capture_output=True, text=True, timeout=2 * PATIENCE
    )
    if not (made / "codes").exists():
        pytest.skip(f"no file system of one's own here: {done.stderr.strip()}")
    told = (made / "told").read_text()
    assert (made / "codes").read_text().split() == ["1", "0"], told
    assert "No space left on device" in told
    assert (made / "left").read_text() == ""
    expected = whole[0].outputs
    assert {name: (made / "runs" / "smoke" / name).read_bytes() for name in expected} == expected


@pytest.mark.faults
@pytest.mark.parametrize("limit", [1, 1000, 20_000])
def test_a_judge_that_may_not_write_says_so(limit: int, whole: tuple[Checkout, float], checkout: Checkout) -> None:
    """A quota: no file may be longer."""
    command = [sys.executable, "-m", "workbench", "judge", "--profile", "smoke"]

    def restrict() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    with working.started(command, env=environment(checkout.root), preexec_fn=restrict) as process:
        _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert told.startswith("error: ") and told.count("\n") == 1 and "File too large" in told
    assert not list(checkout.root.rglob("*.tmp"))

"""Two runs in one folder: the second is refused, and a run that was killed locks nobody out."""

import os
import signal
import subprocess
import sys

import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.runs.lock import Lock

HOLD = "import sys, time; from pathlib import Path; from arena_jax.runs.lock import Lock\n"
HOLD += "with Lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


def test_another_process_is_refused_until_it_is_killed(tmp_path):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as other:
        try:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(ArenaError, match=f"is in use by process {other.pid} on "), Lock(tmp_path):
                pass
        finally:
            other.send_signal(signal.SIGKILL)
    assert (tmp_path / "lock").exists()
    with Lock(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / "lock").read_text()


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "lock").symlink_to(victim)
    with pytest.raises(ArenaError, match="cannot lock"), Lock(folder):
        pass
    assert victim.read_text() == "precious"

"""`--require_jail` on a machine without the system-call filter."""

import os
from pathlib import Path
import subprocess
import sys

import pytest

from poise_jax.archive import store

_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")
def test_refuses_to_search_without_the_filter(tmp_path):
  (tmp_path / "pyseccomp.py").write_text("raise ImportError")
  result = subprocess.run(
      [
          sys.executable,
          "launch/search.py",
          "--config=experiments/quickstart.py",
          f"--workdir={tmp_path / 'work'}",
          "--require_jail",
      ],
      cwd=_ROOT,
      env=os.environ | {"PYTHONPATH": str(tmp_path)},
      capture_output=True,
      text=True,
      timeout=240,
  )
  assert result.returncode == 2, result.stderr[-2000:]
  (line,) = [s for s in result.stderr.splitlines() if s.startswith("search:")]
  assert "system-call filter" in line and "libseccomp" in line
  # It says nothing about the source, so nothing may be stored about it.
  with store.Archive.open(
      tmp_path / "work" / "archive.db", create=False
  ) as archive:
    (campaign,) = archive.campaigns()
    assert archive.candidates(campaign.id) == []

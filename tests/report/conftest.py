"""A real browser for pages."""

import pathlib
import subprocess

import pytest

CHROMIUM = pathlib.Path("/usr/bin/chromium")


@pytest.fixture
def browser(tmp_path):
  """Shows a file, scripts run, and gives the document that came of it."""
  if not CHROMIUM.exists():
    pytest.skip(f"needs a browser at {CHROMIUM}")

  def show(path):
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=10000",
        "--dump-dom",
        path.as_uri(),
    ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True
    ).stdout

  return show

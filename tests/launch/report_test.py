"""The program as it is run: in a process of its own."""

import datetime
import json
import pathlib
import subprocess
import sys

import pytest

from poise_jax.archive import records, store

SCRIPT = pathlib.Path(__file__).parents[2] / "launch" / "report.py"
TIME = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


def start(*flags):
  return subprocess.Popen(
      [sys.executable, str(SCRIPT), *map(str, flags)],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  )


def candidate(campaign_id):
  source = "def loss(hparams, state, batch): ..."
  return records.Candidate(
      id=f"{campaign_id}-000",
      campaign_id=campaign_id,
      index=0,
      name="grpo",
      role="root",
      generation=0,
      parents=(),
      source=source,
      source_sha256=records.sha256(source),
      mechanisms={},
      rationale="",
      accepted=True,
      findings=(),
      artifact=b"",
      artifact_sha256=records.sha256(b""),
      hparams={},
      created_at=TIME,
  )


@pytest.fixture
def archive_file(tmp_path):
  path = tmp_path / "archive.db"
  with store.Archive.open(path, create=True) as archive:
    for days, name in enumerate(("new", "old")):
      archive.add_campaign(
          records.Campaign(
              name, name, {"budget": "quick"}, TIME - datetime.timedelta(days)
          )
      )
      archive.add_candidate(candidate(name))
  return path


def test_json_alone_on_stdout_and_a_page(archive_file, tmp_path):
  out = tmp_path / "page"
  newest = start(f"--archive={archive_file}", f"--out={out}", "--json=-")
  board = tmp_path / "board.json"
  url = f"sqlite:///{archive_file}"
  chosen = start(f"--archive={url}", "--campaign=old", f"--json={board}")
  stdout, stderr = newest.communicate(timeout=60)
  assert newest.returncode == 0
  assert json.loads(stdout) == {
      "campaign": "new",
      "candidates": [
          {
              "id": "new-000",
              "name": "grpo",
              "parents": [],
              "status": "pending",
              "overall_mean": None,
              "overall_low": None,
              "overall_high": None,
              "n_seeds": 0,
              "source_sha256": candidate("new").source_sha256,
          }
      ],
  }
  assert "newest of 2 campaigns: new" in stderr
  assert "new-000" in (out / "index.html").read_text()
  stdout, stderr = chosen.communicate(timeout=60)
  assert (chosen.returncode, stdout, stderr) == (0, "", "")
  assert json.loads(board.read_text())["campaign"] == "old"


def test_whatever_is_wrong_is_one_line_and_status_2(archive_file, tmp_path):
  garbage = tmp_path / "garbage.db"
  garbage.write_bytes(b"garbage " * 1000)
  below_a_file = garbage / "out"
  archive = f"--archive={archive_file}"
  runs = [
      (start(archive, "--jsn=-"), "Unknown command line flag 'jsn'"),
      (start(f"--archive={garbage}", "--json=-"), "no readable SQLite file"),
      (start(archive, f"--out={below_a_file}"), "name another --out"),
  ]
  for run, message in runs:
    stdout, stderr = run.communicate(timeout=120)
    assert run.returncode == 2
    assert stdout == ""
    lines = [line for line in stderr.splitlines() if "newest of" not in line]
    assert len(lines) == 1
    assert message in lines[0]
  assert garbage.read_bytes() == b"garbage " * 1000

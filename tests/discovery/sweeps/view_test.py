"""Sweeps as records, files and data frames."""

import csv
import io
import json
import sys
import types

import pytest

from poise_jax.discovery.sweeps import cell as cell_lib
from poise_jax.discovery.sweeps import sweep, view
from poise_jax.discovery.sweeps import table as table_lib


@pytest.fixture
def done(tiny, make):
  found = []
  for name, hparams in (("a", {}), ("b", {"clip_eps_high": 0.3})):
    config = cell_lib.Config(name, "grpo", tiny, hparams=hparams)
    for seed in (0, 1):
      key = {"versions": {"jax": "1"}, "base": "b" * 64}
      cell = sweep.Cell(config, seed, key, f"{name}{seed}")
      run = make.evaluation(0, seed, 40.0 + seed + len(hparams) * (1 + seed))
      found.append(sweep.Done(cell, run, "", False))
  lost = sweep.Cell(found[-1].cell.config, 2, found[-1].cell.key, "b2")
  return [*found, sweep.Done(lost, None, "OSError: full", False)]


def test_a_record_a_cell(done):
  cells = view.cells(done)
  assert [(c["config"], c["seed"], c["outcome"]) for c in cells] == [
      ("a", 0, "scored"), ("a", 1, "scored"), ("b", 0, "scored"),
      ("b", 1, "scored"), ("b", 2, "failed"),
  ]  # fmt: skip
  assert cells[0]["overall"] == 40.0 and cells[2]["hparam.clip_eps_high"] == 0.3
  assert (cells[4]["reason"], cells[4]["seconds"]) == ("OSError: full", None)


def test_a_record_a_configuration(done):
  table = table_lib.make(done, "a")
  a, b = sorted(view.rows(table), key=lambda r: r["config"])
  assert (a["verdict"], a["difference"]) == ("baseline", None)
  assert (b["difference"], b["seeds"], b["planned"]) == (1.5, 2, 3)
  assert b["reason"] == "seed 2: OSError: full"
  found = view.as_json(done, table)
  assert json.loads(json.dumps(found)) == found
  assert (len(found["configs"]), len(found["cells"])) == (2, 5)
  assert found["versions"] == {"jax": "1"}


def test_csv_has_a_column_for_whatever_any_record_has(done):
  text = view.as_csv(view.cells(done))
  rows = list(csv.DictReader(io.StringIO(text)))
  assert len(rows) == 5
  assert rows[0]["hparam.clip_eps_high"] == "" and rows[4]["overall"] == ""
  assert float(rows[2]["hparam.clip_eps_high"]) == 0.3


def test_without_pandas_the_error_says_what_to_do(done, monkeypatch):
  monkeypatch.setitem(sys.modules, "pandas", None)
  with pytest.raises(ImportError, match="pip install pandas"):
    view.to_pandas(view.cells(done))


def test_with_pandas_it_is_a_data_frame(done):
  pandas = pytest.importorskip("pandas")
  assert isinstance(pandas, types.ModuleType)
  frame = view.to_pandas(view.cells(done))
  assert len(frame) == 5
  assert frame.groupby("config")["overall"].mean()["a"] == 40.5

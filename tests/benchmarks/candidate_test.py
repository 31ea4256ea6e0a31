import pytest

from poise_jax.benchmarks import candidate


def test_a_candidate_is_timed_from_text_to_compiled_loss():
  found = candidate.run(["rloo"])
  parts = ("verify_seconds", "load_seconds", "compile_seconds")
  assert all(found[name] > 0 for name in parts)
  assert found["total_seconds"] == sum(found[name] for name in parts)
  stages = ("trace_seconds", "examine_seconds", "rest_seconds")
  assert found["verify_seconds"] == pytest.approx(
      sum(found[name] for name in stages)
  )
  assert all(found[name] > 0 for name in stages)
  assert "total_seconds " in candidate.table(found)

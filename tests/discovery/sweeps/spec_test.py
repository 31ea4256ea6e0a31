"""Sweeps as people write them."""

import pytest

from poise_jax.discovery.sweeps import design, spec

FIELDS = {
    "algorithm": str,
    "seed": int,
    "train.learning_rate": float,
    "train.steps": int,
    "train.reference": bool,
    "train.prompts": int,
    "evaluate.prompts": int,
    "hparam.clip_eps_high": float,
}


def test_the_line_of_the_readme():
  text = "algorithm=grpo,dapo,vm_av_grpo; lr=1e-4,3e-4 ;seed=0:5"
  assert spec.parse(text, FIELDS) == {
      "algorithm": ["grpo", "dapo", "vm_av_grpo"],
      "train.learning_rate": [1e-4, 3e-4],
      "seed": [0, 1, 2, 3, 4],
  }


def test_values_have_the_types_of_their_fields():
  found = spec.parse(
      "steps=4,8:10;reference=true,False;clip_eps_high=1", FIELDS
  )
  assert found == {
      "train.steps": [4, 8, 9],
      "train.reference": [True, False],
      "hparam.clip_eps_high": [1.0],
  }
  assert isinstance(found["hparam.clip_eps_high"][0], float)


def test_ranges():
  found = spec.parse("lr=log(1e-5,1e-3);steps=uniform(2, 4)", FIELDS)
  assert found == {
      "train.learning_rate": design.Range(1e-5, 1e-3, log=True),
      "train.steps": design.Range(2.0, 4.0, integer=True),
  }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rat=1", "did you mean learning_rate"),
        ("train.step=1", "did you mean train.steps"),
        ("prompts=1", "must be one of train.prompts, evaluate.prompts"),
        ("lr", "an axis must be NAME=VALUE"),
        ("lr=", "an axis must be NAME=VALUE"),
        ("lr=1;learning_rate=2", "must be given once"),
        ("steps=1.5", "`steps` must be whole numbers, got '1.5'"),
        ("lr=fast", "`lr` must be numbers, got 'fast'"),
        ("reference=perhaps", "`reference` must be true or false"),
        ("seed=1,0:3", "none twice"),
        ("seed=5:5", "at least one value"),
        ("algorithm=log(1,2)", "`algorithm` must be a list of values"),
        ("lr=log(0,1)", "above 0"),
    ],
)
def test_what_cannot_be_swept(text, words):
  with pytest.raises(ValueError, match=words):
    spec.parse(text, FIELDS)

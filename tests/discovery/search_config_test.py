"""Configurations: what cannot be run is named before anything is done."""

from absl import flags as absl_flags
from ml_collections import config_flags
import pytest

from poise_jax.discovery import explaining, search, search_config, steering
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.trials import trial

QUICKER = objectives.Objective(terms=(objectives.Term("train_seconds", "min"),))


def test_workers_are_no_part_of_the_identity(shared, laboratory, tiny_config):
  laboratories = trial.Laboratories(lambda base, budget: laboratory)
  one, two = (
      search_config.identity(tiny_config(workers=n), laboratories)
      for n in (1, 2)
  )
  assert one == two
  assert one["base_sha256"] == laboratory.base_sha256
  assert one["versions"] == laboratory.versions


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": "ppo"}, "`root` must be one of .*, got 'ppo'"),
        ({"budget": "huge"}, "`budget` must be one of .*, got 'huge'"),
        ({"baselines": ("ppo",)}, "`baselines` must be .*, got 'ppo'"),
        ({"baselines": ("dapo", "dapo")}, "`baselines` must not repeat"),
        ({"baselines": ("grpo",)}, "`baselines` must not repeat the root"),
        ({"baselines": ("sign_flipped",)}, "`baselines` must not .* a canary"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
        ({"root_seeds": 0}, "`root_seeds` must be at least 1, got 0"),
        ({"rounds": -1}, "`rounds` must be at least 0, got -1"),
        ({"parents": 0}, "`parents` must be at least 1, got 0"),
        ({"children": 0}, "`children` must be at least 1, got 0"),
        ({"child_seeds": 0}, "`child_seeds` must be at least 1, got 0"),
        ({"workers": 0}, "`workers` must be at least 1, got 0"),
        ({"child_seeds": 9}, "`child_seeds` must not exceed .* 9 and 8"),
        ({"budget": "smoke"}, "`budget` must be a budget that scores"),
        ({"confirm_budget": "huge"}, "`confirm_budget` must be one of"),
        ({"rungs": ("huge",)}, "`rungs` must be one of"),
        ({"rungs": ("quick",)}, "`rungs` must be different budgets, and not"),
        ({"rungs": ("smoke", "smoke")}, "`rungs` must be different budgets"),
        ({"rule": "luck"}, "`rule` must be one of .*, got 'luck'"),
        ({"alpha": 1.0}, "`alpha` must lie in"),
        ({"noise_sd": 0.0}, "`noise_sd` must be positive"),
        ({"finalists": -1}, "`finalists` must be at least 0"),
        (
            {"explain": explaining.Plan(budget="huge")},
            "`explain.budget` must be one of .*, got 'huge'",
        ),
        (
            {"explain": explaining.Plan(budget="smoke")},
            "`explain.budget` must be a budget that scores",
        ),
        (
            {"explain": explaining.Plan(pairs=1)},
            "`explain.pairs` must be at least 2, got 1",
        ),
        (
            {"confirm_seeds": 997},
            "`explain.first_seed` must be at least 2001, .* got 2000",
        ),
        (
            {"objective": QUICKER},
            "must name .* got train_seconds; .* limit `tokens` or `flops` instead",
        ),
        (
            {"directive": "less training time"},
            "must name .* got train_seconds; .* limit `tokens` or `flops` instead",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_field_is_named(opened, changes, words):
  config = search_config.SearchConfig(**changes)
  with pytest.raises(ValueError, match=words):
    steering.steer(config).checked()
  archive = opened("untouched")
  with pytest.raises(ValueError, match=words):
    search.run(config, archive)
  assert archive.campaigns() == []


def test_a_sound_configuration_is_returned():
  config = search_config.SearchConfig(baselines=("dapo", "rloo"))
  assert config.checked() is config
  assert config.planted == 7
  names = [rung.name for rung in config.race.rungs]
  assert names == ["smoke", "quarter", "full"]
  assert [rung.budget for rung in config.race.rungs] == [
      *("smoke", "quarter"),
      "quick",
  ]
  # What scores nothing is compared with nothing.
  assert [rung.margin for rung in config.race.rungs] == [None, 15.0, 0.0]
  plan = config.confirmations
  assert (plan.protocol.budget, plan.protocol.split) == ("confirm", "confirm")
  assert plan.protocol.first_seed >= 1000 > config.max_seeds
  assert sum(plan.shares) == pytest.approx(1.0) and len(plan.shares) == 2


def test_explanations_are_made_where_confirmations_are_unless_told():
  config = search_config.SearchConfig(confirm_budget="standard")
  assert config.explanations.budget == "standard"
  other = config.explain
  other.budget, other.settings = "quick", 0
  assert config.checked().explanations == explaining.Plan("quick", settings=0)
  # Another campaign has a plan of its own.
  assert search_config.SearchConfig().explain == explaining.Plan()


def test_any_field_of_explanations_can_be_set_from_the_command_line():
  argv = [
      "program",
      *("--config.explain.budget=quick", "--config.explain.pairs=12"),
      *("--config.explain.margin=2.5", "--config.explain.statements=true"),
      "--config.explain.group_sizes=(2, 4)",
      "--config.explain.bases=('carryless_second',)",
  ]
  flags = absl_flags.FlagValues()
  config = search_config.SearchConfig()
  holder = config_flags.DEFINE_config_dataclass(
      "config", config, flag_values=flags, sys_argv=argv
  )
  flags(argv)
  assert holder.value.checked().explain == explaining.Plan(
      budget="quick",
      pairs=12,
      margin=2.5,
      statements=True,
      group_sizes=(2, 4),
      bases=("carryless_second",),
  )


def test_budget_and_bases_of_explanations_are_part_of_the_identity(
    shared, laboratory, tiny_config
):
  def make(base, budget):
    if base == "missing":
      raise FileNotFoundError("no config.json in 'missing'")
    return laboratory

  plan = explaining.Plan("quick", bases=("other",), hard_seeds=0)
  told = search_config.identity(
      tiny_config(explain=plan), trial.Laboratories(make)
  )
  assert set(told["budget_sizes"]) == {"tiny", "quick"}
  assert told["explain_bases_sha256"] == {"other": laboratory.base_sha256}
  # The budget in full, whether it was named or not.
  unnamed = search_config.identity(tiny_config(), trial.Laboratories(make))
  assert unnamed["explain"]["budget"] == "tiny"
  assert "explain_bases_sha256" not in unnamed
  with pytest.raises(FileNotFoundError, match="missing"):
    plan.bases = ("missing",)
    search_config.identity(tiny_config(explain=plan), trial.Laboratories(make))


def test_canaries_and_the_exact_clone_need_one_seed(make):
  config = search_config.SearchConfig(root_seeds=5)
  seeds = {
      (role, name): config.planted_seeds(make.candidate(0, name, role=role))
      for role, name in (
          ("root", "grpo"),
          ("canary", "zero_gradient"),
          ("clone", "exact_clone"),
          ("clone", "near_clone"),
          ("baseline", "dapo"),
      )
  }
  assert list(seeds.values()) == [5, 1, 1, 5, 5]


def test_the_base_policies_are_those_of_the_task(shared, laboratory):
  found = {
      task: search_config.SearchConfig(task=task)
      for task in ("arithmetic", "carryless")
  }
  bases = {k: (c.own_base, c.other_base) for k, c in found.items()}
  assert bases == {
      "arithmetic": ("embedded", "arithmetic_second"),
      "carryless": ("carryless", "carryless_second"),
  }
  swapped = search_config.SearchConfig(base="arithmetic_second")
  assert swapped.other_base == "embedded"
  assert search_config.SearchConfig(second_base="").other_base == ""
  same = trial.Laboratories(lambda base, budget: laboratory)
  with pytest.raises(ValueError, match="`second_base` must be another policy"):
    search_config.identity(search_config.SearchConfig(), same)

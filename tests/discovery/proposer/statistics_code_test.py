from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import mechanisms, statistics_code


def test_every_legal_pair_has_code():
  for subset in mechanisms.BY_SLOT["subset"]:
    for baseline in mechanisms.BY_SLOT["baseline"]:
      for scale in mechanisms.BY_SLOT["scale"]:
        choices = {"subset": subset, "baseline": baseline, "scale": scale}
        asked = genomes.Genome().choices | choices
        if mechanisms.violations(asked):
          continue
        genome = genomes.edited(genomes.Genome(), choices)
        lines = statistics_code.statistics(genome, lambda slot, choice: "")
        assert any("advantage = " in line for line in lines), choices


def test_one_atom_says_it_where_there_is_one():
  lines = statistics_code.statistics(genomes.named("grpo"), lambda *_: "")
  assert lines == [
      'advantage = advantages.group_normalized(rewards, epsilon=hparams["epsilon"])'
  ]

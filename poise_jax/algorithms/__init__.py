"""What is searched over: policy-optimisation losses and their atoms.

Atoms: `advantages`, `ratios`, `kl`, `masks`, `aggregation`. Compositions:
`catalog` (baselines and the registry), `poise` (variants that an earlier
search discovered), `canaries` (losses that must not learn). Everything is a
pure function of arrays and needs jax alone.
"""

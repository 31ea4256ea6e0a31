"""What is searched over: policy-optimisation losses and their atoms.

Atoms, from rewards to a number: `advantages`, `regimes`, `length_shaping`;
`ratios`, `surrogates`, `sequence_losses`, `trust_regions`; `kl`, `masks`,
`corrections`, `aggregation`; `controllers`. Compositions: `members`, by name
through `catalog`. `properties` checks any loss against what every loss must
do. Everything is a pure function of arrays and needs jax alone.
"""

"""The named algorithms, one module a family; `catalog` is the way in.

Each is a function `<name>_loss(hparams, state, batch)` with its constants in
`<NAME>_HPARAMS` and, where it has a state, `<name>_init(hparams)`. Bodies use
`jnp`, `jax.lax` and the atoms alone, so that their text is a valid candidate.
"""

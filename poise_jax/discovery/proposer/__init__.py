"""The offline proposer: losses from the atoms of the whole catalogue."""

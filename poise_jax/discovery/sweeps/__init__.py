"""Every configuration with every seed, each cell once."""

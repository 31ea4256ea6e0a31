"""Epistemic Evolutionary Search: whom a round builds on."""

"""Directives in plain language, read into the objective of a search."""

from poise_jax.discovery.directives.reading import (
    Budget,
    DirectiveError,
    explain,
    parse,
    read,
    Reading,
    Source,
)

__all__ = [
    "Budget",
    "DirectiveError",
    "Reading",
    "Source",
    "explain",
    "parse",
    "read",
]

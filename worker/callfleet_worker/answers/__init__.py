"""Typed answers: what a person said, turned into a canonical value by grammars, or nothing when in doubt."""

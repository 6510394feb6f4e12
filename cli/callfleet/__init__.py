"""The callfleet command."""

"""One call at a time in each process: voice pipeline, agents, slot supervisor."""

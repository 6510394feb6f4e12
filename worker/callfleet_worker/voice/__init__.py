"""One call's voice: a pipecat pipeline from the carrier's socket through hearing and conversation back to it."""

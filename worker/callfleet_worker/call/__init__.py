"""One call in one process: the right to dial, the carrier, the media leg, the conversation, the records."""

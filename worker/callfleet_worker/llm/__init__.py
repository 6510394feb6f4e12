"""The language model's three bounded jobs, each with a deadline and a template that takes over."""

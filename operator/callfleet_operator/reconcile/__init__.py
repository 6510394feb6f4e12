"""The shells that apply what the planners decided, one module a kind."""

"""Hearing and speaking, each in a process of its own behind a Unix socket, shared by a worker's calls."""

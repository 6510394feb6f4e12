"""A Kubernetes cluster to run on: one that is given, kind, or a single node made of its own parts."""

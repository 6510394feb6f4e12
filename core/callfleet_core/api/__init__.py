"""The three kinds of callfleet.dev/v1alpha1, and the CRDs that are made from them."""

GROUP = "callfleet.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

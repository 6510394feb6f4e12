"""The real parts CallFleet runs on (Kubernetes, Ollama, models, …): found on this machine or built once."""

"""The thin HTTP door: carrier webhooks, media routing, health, metrics."""

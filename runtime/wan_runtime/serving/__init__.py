"""The video API: a gateway, a durable queue, and workers that render."""

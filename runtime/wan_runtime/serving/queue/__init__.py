"""The durable queue of videos in PostgreSQL."""

"""Networks, and where their arrays lie; nothing published, nothing on disk."""

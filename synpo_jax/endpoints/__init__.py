"""Models behind OpenAI-compatible servers: asked, and paid for once."""

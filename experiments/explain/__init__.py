"""Where networks look, and what their operators learned."""

"""The arena room."""

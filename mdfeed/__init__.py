"""Exact order books from exchange WebSocket streams."""

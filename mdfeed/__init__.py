"""Exact order books from exchange WebSocket streams, handed on to Redis, files and Python."""

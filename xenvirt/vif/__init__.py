"""The two drivers: xennet, the frontend, and xvif, the backend."""

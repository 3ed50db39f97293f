"""The `xenvirt` command: parse, call one function, print."""

"""Buffered and text streams that lose nothing when their raw file raises. Files and sockets build on them."""

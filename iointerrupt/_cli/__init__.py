"""What `iointerrupt.cli` is made of: a file for each command, what they show, and what they accept. Not public."""

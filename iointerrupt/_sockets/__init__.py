"""What `sockets` is made of: the two classes, names, files over sockets."""

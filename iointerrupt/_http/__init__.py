"""What `http` is made of: urllib3's connections over our sockets, and the reading of bodies."""

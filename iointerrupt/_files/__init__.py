"""What `files` is made of: raw files of each kind, opening, and copying."""

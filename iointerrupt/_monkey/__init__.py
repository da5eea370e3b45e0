"""What `monkey` is made of: what is put in whose place, part by part, and how it is put there and taken away."""

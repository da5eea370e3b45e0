"""What `calls` is made of: queues, locks, endings, actions, and child processes."""

"""The parts of `aio`: waiting in a loop, threads for what blocks, and what aiofiles is given in place of its pool."""

"""The pages, a module each; `put` of each registers it."""

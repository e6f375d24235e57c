"""What every command reads and writes, and its settings."""

"""The model proxy: steps call models through it, without ever holding a key."""

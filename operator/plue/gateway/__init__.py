"""The side that runners talk to: sessions, events, archives. It never decides; it records."""

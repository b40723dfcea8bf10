"""Local mode: an embedded Postgres, runners as processes, and the server that holds them."""

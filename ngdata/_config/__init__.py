"""The settings: their sources, their validation, the URLs of the servers, and TLS."""
